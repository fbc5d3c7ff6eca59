"""OpenAI's chat completions on the wire: what a request says, and what answers and errors look like.

Source: OpenAI's API reference, "Create chat completion" and "The chat completion chunk object".
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import JSONResponse, Response

from gitune.inference import Generation


@dataclass(frozen=True, slots=True)
class Question:
    """A request for a chat completion. `body` is as the client sent it."""

    alias: str
    body: Mapping[str, Any]

    @property
    def messages(self) -> list[dict[str, str]]:
        """Role and text of each message; parts of text are joined."""
        return [
            {"role": str(message["role"]), "content": _text(message.get("content"))}
            for message in self.body["messages"]
        ]

    @property
    def streamed(self) -> bool:
        return self.body.get("stream") is True

    @property
    def user(self) -> str | None:
        user = self.body.get("user")
        return user if isinstance(user, str) else None

    def max_new_tokens(self, default: int) -> int:
        """As the client says, in either of OpenAI's words."""
        asked = self.body.get("max_completion_tokens") or self.body.get("max_tokens")
        return asked if isinstance(asked, int) and asked > 0 else default


def read_question(raw: bytes) -> Question | str:
    """The question, or what is wrong with the body."""
    try:
        body = json.loads(raw)
    except ValueError:
        return "the body is not JSON"
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        return "'model' must name an alias"
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return "'messages' must be a list of messages"
    if not all(isinstance(one, dict) and isinstance(one.get("role"), str) for one in messages):
        return "each message must have a role"
    return Question(body["model"], body)


def completion(alias: str, generation: Generation, longest: int) -> dict[str, Any]:
    """A whole answer."""
    used = {"prompt_tokens": generation.prompt_tokens, "completion_tokens": generation.completion_tokens}
    reason = "length" if generation.completion_tokens >= longest else "stop"
    message = {"role": "assistant", "content": generation.text}
    return {
        **_head(alias, "chat.completion"),
        "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": None}],
        "usage": {**used, "total_tokens": sum(used.values())},
    }


class Chunks:
    """The pieces of one streamed answer, as server-sent events."""

    def __init__(self, alias: str) -> None:
        self._head = _head(alias, "chat.completion.chunk")

    def first(self) -> bytes:
        return self._event({"role": "assistant", "content": ""})

    def piece(self, text: str) -> bytes:
        return self._event({"content": text})

    def last(self) -> bytes:
        return self._event({}, "stop") + b"data: [DONE]\n\n"

    def _event(self, delta: Mapping[str, str], reason: str | None = None) -> bytes:
        chunk = {**self._head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        return event(chunk)


def event(data: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def error(status: int, message: str, code: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error in OpenAI's shape, which its SDKs turn into their exceptions."""
    return JSONResponse(error_body(status, message, code), status, dict(headers or {}))


def error_body(status: int, message: str, code: str) -> dict[str, Any]:
    """The body of an error."""
    kind = "invalid_request_error" if status < 500 and status != 429 else "api_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _head(alias: str, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": alias}


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
