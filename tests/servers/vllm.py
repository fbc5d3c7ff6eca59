"""What vLLM answers when adapters are loaded into it at run time, and chat completions of what is loaded."""

from __future__ import annotations

from typing import ClassVar

from tests.servers.base import HttpServer, Request, Response, route


class VllmServer(HttpServer):
    """After vllm/entrypoints/openai: `may_load` is VLLM_ALLOW_RUNTIME_LORA_UPDATING."""

    submit_route: ClassVar[tuple[str, str]] = ("POST", "/v1/load_lora_adapter")

    def __init__(self, key: str | None = None) -> None:
        super().__init__()
        self.key = key
        self.may_load = True
        self.adapters: dict[str, str] = {}
        """lora_name → lora_path"""

    def authorize(self, request: Request) -> Response | None:
        right = self.key is None or request.headers["Authorization"] == f"Bearer {self.key}"
        return None if right else self.error(401, "Unauthorized")

    @route("GET", "/v1/models")
    def models(self, _request: Request) -> Response:
        listed = [{"id": name, "object": "model", "parent": "base"} for name in self.adapters]
        return Response(200, {"object": "list", "data": [{"id": "base", "object": "model"}, *listed]})

    @route("POST", "/v1/load_lora_adapter")
    def load(self, request: Request) -> Response:
        if not self.may_load:
            return Response(404, {"detail": "Not Found"})
        name, path = request.json["lora_name"], request.json["lora_path"]
        if name in self.adapters:
            return self.error(400, f"The lora adapter '{name}' has already been loaded.")
        self.adapters[name] = path
        return Response(200, f"Success: LoRA adapter '{name}' added successfully.")

    @route("POST", "/v1/chat/completions")
    def chat(self, request: Request) -> Response:
        asked = request.json
        if asked["model"] not in self.adapters:
            return self.error(404, f"The model `{asked['model']}` does not exist.")
        message = {"role": "assistant", "content": f"from {self.adapters[asked['model']]}"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
        return Response(
            200,
            {
                "id": "1", "object": "chat.completion", "created": 1, "model": asked["model"], "choices": [choice],
                "usage": usage,
            },
        )  # fmt: skip
