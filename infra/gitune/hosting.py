"""Where models of adapters and custom models are put so that they answer: vLLM, or Bedrock's provisioned throughput.

`up` sees to it before an alias is pointed at a model, outside the engine: a throughput takes minutes to be there. It
may be killed at any moment and called again. Sources: vLLM, "Dynamically serving LoRA adapters"; Amazon Bedrock API
reference, CreateProvisionedModelThroughput and UpdateProvisionedModelThroughput.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable
from typing import Any

from gitune.deploy import Route
from gitune.errors import Rejected, Unauthorized, Unavailable
from gitune.project import Project
from gitune.providers.aws import mapped, open_client
from gitune.providers.base import ChatTarget, HttpTarget, LocalTarget
from gitune.stack_spec import ProvisionedThroughput, VllmServer

KEY_VARIABLE = "VLLM_API_KEY"
_TIMEOUT_SECONDS = 120.0
_READY_SECONDS = 3600.0
_POLL_SECONDS = 15.0

Note = Callable[[str], None]


def target_of(project: Project, route: Route) -> ChatTarget:
    """Where the model behind a route answers in this stack. Raises UserError or ProviderError."""
    vllm = project.stack.hosting.vllm
    target = project.provider(route.provider).chat_target(route.model_id)
    if vllm is None or not isinstance(target, LocalTarget):
        return target
    name = _lora_name(route)
    return HttpTarget("openai", f"{vllm.url.rstrip('/')}/v1", name, target.base_model, KEY_VARIABLE)


def host_models(project: Project, routes: Iterable[tuple[str, Route]], note: Note) -> None:
    """Put what these aliases are to answer with where it answers; what is there stays as it is.

    Raises UserError or ProviderError, before any alias is changed.
    """
    hosting = project.stack.hosting
    for alias, route in routes:
        if route.provider == "bedrock" and hosting.bedrock is not None:
            _Throughputs(project, hosting.bedrock, note).host(alias, route)
        elif hosting.vllm is not None:
            _load_adapter(project, hosting.vllm, route, note)


def _load_adapter(project: Project, server: VllmServer, route: Route, note: Note) -> None:
    target = project.provider(route.provider).chat_target(route.model_id)
    if not isinstance(target, LocalTarget) or target.adapter is None:
        return
    name = _lora_name(route)
    if name in _served(server):
        return
    path = route.model_id if route.provider == "huggingface" else str(target.adapter.resolve())
    if server.adapters is not None and route.provider != "huggingface":
        path = f"{server.adapters.rstrip('/')}/{target.adapter.resolve().relative_to(project.state_folder.resolve())}"
    _post(server, "load_lora_adapter", {"lora_name": name, "lora_path": path})
    note(f"vLLM has loaded {route.agent} {route.version} as {name}")


def _served(server: VllmServer) -> set[str]:
    said = _call(server, "GET", "models", None)
    try:
        return {str(model["id"]) for model in said.json()["data"]}
    except (ValueError, KeyError, TypeError):
        raise Unavailable(f"{server.url} does not list models as OpenAI does") from None


def _post(server: VllmServer, path: str, body: dict[str, str]) -> None:
    reply = _call(server, "POST", path, body)
    if reply.status_code == 404:
        hint = "start it with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
        raise Rejected(f"{server.url} loads no adapters at run time", hint=hint)
    if reply.status_code >= 400 and "already been loaded" not in reply.text:
        raise Rejected(f"{server.url}: {' '.join(reply.text.split())[:200]}")


def _call(server: VllmServer, method: str, path: str, body: dict[str, str] | None) -> Any:
    import httpx

    key = os.environ.get(KEY_VARIABLE)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    url = f"{server.url.rstrip('/')}/v1/{path}"
    try:
        reply = httpx.request(method, url, json=body, headers=headers, timeout=_TIMEOUT_SECONDS)
    except httpx.HTTPError as error:
        raise Unavailable(f"{server.url} does not answer: {type(error).__name__}") from None
    if reply.status_code in (401, 403):
        raise Unauthorized(f"{server.url} refuses the key", hint=f"set {KEY_VARIABLE}")
    if reply.status_code >= 500:
        raise Unavailable(f"{server.url} answered {reply.status_code}")
    return reply


def _lora_name(route: Route) -> str:
    """Unique to the model, and readable in vLLM's own metrics."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{route.agent}-{route.version}")
    return f"{plain}-{hashlib.sha256(route.model_id.encode()).hexdigest()[:8]}"


class _Throughputs:
    """One provisioned throughput for each alias, moved from model to model; the old one answers while it moves."""

    def __init__(self, project: Project, settings: ProvisionedThroughput, note: Note) -> None:
        self._stack, self._settings, self._note = project.stack.name, settings, note
        region = getattr(project.settings("bedrock"), "region", None)
        self._client = open_client("bedrock", region, _TIMEOUT_SECONDS)

    def host(self, alias: str, route: Route) -> None:
        name = f"gitune-{self._stack}-{alias}"[:63]
        known = self._known(name)
        if known is None:
            self._create(name, route)
        elif known.get("desiredModelArn", known["modelArn"]) != route.model_id:
            with mapped():
                self._client.update_provisioned_model_throughput(
                    provisionedModelId=known["provisionedModelArn"], desiredModelId=route.model_id
                )
            self._note(f"Bedrock moves {name} to {route.agent} {route.version}")
        self._wait(name, route)

    def _create(self, name: str, route: Route) -> None:
        order = {
            "provisionedModelName": name,
            "modelId": route.model_id,
            "modelUnits": self._settings.model_units,
            "clientRequestToken": hashlib.sha256(f"{name} {route.model_id}".encode()).hexdigest()[:64],
        }
        if self._settings.commitment is not None:
            order["commitmentDuration"] = self._settings.commitment
        with mapped():
            self._client.create_provisioned_model_throughput(**order)
        self._note(f"Bedrock starts {name}, which is billed by the hour")

    def _known(self, name: str) -> dict[str, Any] | None:
        with mapped():
            pages = self._client.get_paginator("list_provisioned_model_throughputs").paginate(nameContains=name)
            found = [one for page in pages for one in page["provisionedModelSummaries"]]
        return next((one for one in found if one["provisionedModelName"] == name), None)

    def _wait(self, name: str, route: Route) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            known = self._known(name)
            status = known["status"] if known else "gone"
            if known and status == "InService" and known["modelArn"] == route.model_id:
                return
            if status in ("Failed", "gone"):
                raise Rejected(f"Bedrock's {name} is {status}", hint="see it in Amazon's console, then run gitune up")
            if time.monotonic() > deadline:
                raise Unavailable(f"Bedrock's {name} is still {status} after an hour", hint="run gitune up again later")
            time.sleep(_POLL_SECONDS)
