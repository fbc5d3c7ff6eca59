"""The FineTunedModel resource: one agent's model ID, level-triggered.

Each operation returns at once and state says how far it got; `gitune up`, or the next `pulumi up --refresh`, goes on.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from typing import Any

from pulumi import Input, Output, ResourceOptions, dynamic

from gitune.dataset import dataset_folder
from gitune.errors import ProviderError, UserError
from gitune.limits import kind_of
from gitune.providers.base import TrainingRequest
from gitune.reconcile import UNSETTLED, ModelState, Target, observe, refuse, submit
from gitune.resources.host import end_with_engine, handed_over_targets, open_project, own_wishes
from gitune.round import take_round

_INPUTS = ("agent", "stack", "fingerprint", "examples", "candidates")


class FineTunedModelProvider(dynamic.ResourceProvider):
    """The table in docs/architecture.md, row by row."""

    serialize_as_secret_always = False

    def configure(self, _req: dynamic.ConfigureRequest) -> None:
        end_with_engine()

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.DiffResult:
        return dynamic.DiffResult(changes=model_changed(_olds, _news, _handed_over(_news)))

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        return dynamic.CreateResult(props["agent"], _advanced({}, props))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.UpdateResult:
        old = ModelState.from_outputs(_olds)
        if old.status == "running" and old.key not in _keys(_news):
            _cancel(old, _olds["stack"])  # superseded: nobody wants what it would produce
        return dynamic.UpdateResult(_advanced(_olds, _news))

    def read(self, id_: str, props: dict[str, Any]) -> dynamic.ReadResult:
        inputs = {name: props[name] for name in _INPUTS}
        if props["agent"] in handed_over_targets():
            return dynamic.ReadResult(id_, props, inputs)  # the round has asked already
        state = observe(ModelState.from_outputs(props), open_project(props["stack"]).provider)
        return dynamic.ReadResult(id_, {**inputs, **state.outputs()}, inputs)

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        state = ModelState.from_outputs(_props)
        if state.status == "running":
            _cancel(state, _props["stack"])


def model_changed(recorded: dict[str, Any], wanted: dict[str, Any], target: Target | None) -> bool:
    """Pure: another training is wanted, or what is recorded is not what the round found.

    Without a round, whatever did not come to its end is looked at again.
    """
    if recorded.get("key") not in _keys(wanted) or any(
        recorded.get(name) != wanted.get(name) for name in ("fingerprint", "examples", "candidates")
    ):
        return True
    if target is None:
        return recorded.get("status") in UNSETTLED
    return target.differs(ModelState.from_outputs(recorded))


def _keys(props: dict[str, Any]) -> list[str]:
    return [candidate["key"] for candidate in props["candidates"]]


def _handed_over(props: dict[str, Any]) -> Target | None:
    """What gitune decided for exactly these candidates, before it started the engine."""
    target = handed_over_targets().get(props["agent"])
    return target if target is not None and list(target.keys) == _keys(props) else None


def _advanced(olds: dict[str, Any], props: dict[str, Any]) -> dict[str, Any]:
    target = _handed_over(props)
    if target is not None:
        return _recorded(target, props)
    with _ONE_BY_ONE:  # `pulumi up` without gitune: nobody has decided for all agents together
        return _recorded(_own_target(olds, props), props)


def _own_target(olds: dict[str, Any], props: dict[str, Any]) -> Target:
    project = open_project(props["stack"])
    wish = own_wishes(props["stack"]).get(props["agent"])
    if wish is None or list(wish.keys) != _keys(props):
        raise UserError(f"the data of agent '{props['agent']}' changed while the engine ran", hint="run: gitune up")
    recorded = {props["agent"]: ModelState.from_outputs(olds)} if olds else {}
    return take_round(project, [wish], recorded, time.time()).targets[props["agent"]]


def _recorded(target: Target, props: dict[str, Any]) -> dict[str, Any]:
    state = target.state if target.submit is None else _submitted(target, target.submit, props)
    return {**{name: props[name] for name in _INPUTS}, **state.outputs()}


def _submitted(target: Target, candidate: int, props: dict[str, Any]) -> ModelState:
    request = TrainingRequest.from_recorded(props["candidates"][candidate], props["fingerprint"])
    if request.provider in _ASKED:
        return _answered(target, request, props)
    # An SDK imports parts of itself as they are used, and Python's imports have failed when four threads did so at
    # once. So the first submission goes alone; and if it is refused, nobody else need ask.
    with _ONE_BY_ONE:
        state = _answered(target, request, props)
        _ASKED.add(request.provider)
        return state


def _answered(target: Target, request: TrainingRequest, props: dict[str, Any]) -> ModelState:
    project = open_project(props["stack"])
    refused, taken = _REFUSED.get(request.provider), _TAKEN.setdefault(request.provider, [])
    if refused is not None:  # it has just told another agent: asking again would only have it told again
        return refuse(target, request, refused, time.time(), taken=len(taken))
    try:
        state = submit(target, request, dataset_folder(project.root, props["fingerprint"]), project.provider)
        taken.append(state.job_id)
        return state
    except ProviderError as error:
        if kind_of(error) is not None:
            _REFUSED[request.provider] = error
        return refuse(target, request, error, time.time(), taken=len(taken))


_ONE_BY_ONE = threading.RLock()
_ASKED: set[str] = set()
"""Providers to which a job was sent in this pass."""
_REFUSED: dict[str, ProviderError] = {}
"""By provider, what it said to the first agent that it took no job of in this pass."""
_TAKEN: dict[str, list[str]] = {}
"""By provider, the jobs that it took in this pass."""


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
            "status": None,  # declared, so the attribute is there; each one costs the program time at 1,000 agents
            "model_id": None,
        }
        super().__init__(FineTunedModelProvider(), agent, props, opts)
