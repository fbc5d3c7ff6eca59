"""The FineTunedModel resource: one agent's model ID, level-triggered.

Each operation returns at once and state says how far it got; `gitune up`, or the next `pulumi up --refresh`, goes on.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Any

from pulumi import Input, Output, ResourceOptions, dynamic

from gitune.dataset import dataset_folder
from gitune.errors import ProviderError
from gitune.providers.base import TrainingRequest
from gitune.reconcile import UNSETTLED, ModelState, advance, observe
from gitune.resources.host import end_with_engine, open_project

RETRY_VARIABLE = "GITUNE_RETRY_FAILED"
"""Set to 1 by `gitune up --retry`: failed jobs are started anew in this pass."""
_INPUTS = ("agent", "stack", "fingerprint", "examples", "candidates")


class FineTunedModelProvider(dynamic.ResourceProvider):
    """The table in docs/architecture.md, row by row."""

    serialize_as_secret_always = False

    def configure(self, _req: dynamic.ConfigureRequest) -> None:
        end_with_engine()

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.DiffResult:
        return dynamic.DiffResult(changes=model_changed(_olds, _news))

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        return dynamic.CreateResult(props["agent"], _advanced(props))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.UpdateResult:
        old = ModelState.from_outputs(_olds)
        if old.status == "running" and old.key not in _keys(_news):
            _cancel(old, _olds["stack"])  # superseded: nobody wants what it would produce
        return dynamic.UpdateResult(_advanced(_news))

    def read(self, id_: str, props: dict[str, Any]) -> dynamic.ReadResult:
        state = observe(ModelState.from_outputs(props), open_project(props["stack"]).provider)
        inputs = {name: props[name] for name in _INPUTS}
        return dynamic.ReadResult(id_, {**inputs, **state.outputs()}, inputs)

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        state = ModelState.from_outputs(_props)
        if state.status == "running":
            _cancel(state, _props["stack"])


def model_changed(recorded: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Pure: another training is wanted, or the recorded one did not come to its end."""
    if recorded.get("status") in UNSETTLED:
        return True
    return recorded.get("key") not in _keys(wanted) or any(
        recorded.get(name) != wanted.get(name) for name in ("fingerprint", "examples", "candidates")
    )


def _keys(props: dict[str, Any]) -> list[str]:
    return [candidate["key"] for candidate in props["candidates"]]


def _advanced(props: dict[str, Any]) -> dict[str, Any]:
    project = open_project(props["stack"])
    requests = [TrainingRequest.from_recorded(candidate, props["fingerprint"]) for candidate in props["candidates"]]
    folder = dataset_folder(project.root, props["fingerprint"])
    state = advance(requests, folder, project.provider, retry_failed=os.environ.get(RETRY_VARIABLE) == "1")
    return {**{name: props[name] for name in _INPUTS}, **state.outputs()}


def _cancel(state: ModelState, stack: str) -> None:
    with contextlib.suppress(ProviderError):  # it ended or vanished in the meantime: what we wanted
        open_project(stack).provider(state.provider).cancel_job(state.job_id)


class FineTunedModel(dynamic.Resource, module="gitune", name="FineTunedModel"):
    """One agent's model, trained by the first candidate that can."""

    status: Output[str]
    model_id: Output[str]

    def __init__(
        self,
        agent: str,
        stack: str,
        fingerprint: str,
        examples: int,
        requests: Sequence[TrainingRequest],
        opts: ResourceOptions,
    ) -> None:
        props: dict[str, Input[Any]] = {
            "agent": agent,
            "stack": stack,
            "fingerprint": fingerprint,
            "examples": examples,
            "candidates": [request.recorded() for request in requests],
            **dict.fromkeys(ModelState("queued").outputs()),
        }
        super().__init__(FineTunedModelProvider(), agent, props, opts)
