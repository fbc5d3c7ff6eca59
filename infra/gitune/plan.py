"""What a pass will do to each agent and why, in the user's words. Made from the very steps that the engine takes."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from gitune.dataset import Dataset, build_dataset, dataset_folder
from gitune.dataset.compare import compare, recorded_lines
from gitune.dataset.manifest import TRAIN_FILE
from gitune.forecast import Before, Forecast, forecast, recorded_tokens
from gitune.preflight import judge_pass
from gitune.project import Project
from gitune.reconcile import ModelState, Target
from gitune.refusals import Ruling
from gitune.round import Round, handed_over, take_round
from gitune.shared_routes import fetch_routes
from gitune.spec import load_agents
from gitune.state import resource_outputs, state_version
from gitune.wishes import Wish, wished, within_budgets

if TYPE_CHECKING:
    from gitune.stack import Step

_Build: TypeAlias = Callable[[], Dataset]
"""An agent's dataset as the files are now, built once however often it is asked for."""
Action = Literal["train", "retrain", "start", "queue", "adopt", "stop", "deploy", "redeploy", "remove"]


@dataclass(frozen=True, slots=True)
class PlannedCandidate:
    """One entry of an agent's `training:`, in its order."""

    provider: str
    base_model: str
    key: str
    """The training key; empty where the dataset is not known."""
    taken: bool
    """It is submitted, waited for or adopted; the others stand ready for a failover."""
    refused: str = ""
    """Why it must not be submitted; empty: it may be."""


@dataclass(frozen=True, slots=True)
class DatasetChange:
    """What differs between the dataset of the model in place and the wanted one."""

    added: int
    removed: int
    changed: int
    """The same prompt with another answer."""
    categories: Mapping[str, tuple[int, int]]
    """Of answers that are categories, those whose count moved: (before, after)."""


@dataclass(frozen=True, slots=True)
class Change:
    """One item of a plan."""

    agent: str
    action: Action
    summary: str
    reasons: tuple[str, ...] = ()
    forecast: Forecast | None = None
    """Of a training that has yet to be paid for."""
    candidates: tuple[PlannedCandidate, ...] = ()
    """Of a model."""
    budget_usd: float | None = None
    """Most that the agent's training may cost."""
    queued: bool = False
    """No candidate has room for it now."""
    dataset: DatasetChange | None = None
    """Where another dataset was trained on, and it is on this machine."""

    def as_dict(self) -> dict[str, Any]:
        facts = {"agent": self.agent, "action": self.action, "summary": self.summary, "reasons": list(self.reasons)}
        candidates = {"candidates": [asdict(one) for one in self.candidates]} if self.candidates else {}
        return {**facts, **candidates, **({"forecast": self.forecast.as_dict()} if self.forecast else {})}


def explain_step(step: Step, wishes: Mapping[str, Wish], taken: Round, project: Project) -> Change | None:
    """The change behind a step; None for what a user need not know (a dataset's files follow the model)."""
    if step.kind == "FineTunedModel":
        return _model_change(step, wishes.get(step.agent), taken.targets.get(step.agent), project)
    if step.kind == "Deployment":
        return _deployment_change(step)
    return None


def _model_change(step: Step, wish: Wish | None, target: Target | None, project: Project) -> Change | None:
    if step.operation == "delete" or wish is None or target is None:
        return Change(step.agent, "remove", "no longer declared; the trained model is kept")
    build = functools.cache(lambda: build_dataset(wish.spec, project.root))
    change = _change_of_model(step, wish, target, build, project)
    if change is None:
        return None
    candidates = tuple(
        PlannedCandidate(request.provider, request.base_model, request.key, request.key == target.state.key, refused)
        for request, refused in zip(wish.requests, wish.refused, strict=True)
    )
    return replace(change, candidates=candidates, budget_usd=wish.spec.budget_usd)


def _change_of_model(step: Step, wish: Wish, target: Target, build: _Build, project: Project) -> Change | None:
    state = target.state
    what = f"{state.base_model} on {state.provider}, {wish.examples} examples"
    reasons = _model_reasons(step, build, project) if step.operation != "create" else ()
    why = (*reasons, *((state.reason,) if state.reason else ()))
    if state.status != "queued":
        return _change_without_training(step, state, what, why)
    if step.operation == "update" and not reasons:
        action: Action = "queue" if target.submit is None else "start"
        return Change(
            step.agent, action, f"{'waits' if action == 'queue' else 'starts'}: {what}", why, queued=action == "queue"
        )
    action, words = ("retrain", "trains again:") if reasons else ("train", "trains")
    later = ", as soon as there is room" if target.submit is None else ""
    return Change(
        step.agent,
        action,
        f"{words} {what}{later}",
        why,
        _forecast(step, wish, build, project),
        queued=target.submit is None,
        dataset=_dataset_change(step, build, project),
    )


def _change_without_training(step: Step, state: ModelState, what: str, why: tuple[str, ...]) -> Change | None:
    match state.status:
        case "succeeded" if step.recorded.get("key") == state.key and step.recorded.get("status") == "running":
            return None  # it ended as it should
        case "succeeded":
            return Change(step.agent, "adopt", f"takes the model that was trained for exactly this before: {what}", why)
        case "running":
            return Change(step.agent, "adopt", f"takes the job that runs: {what}", why)
    return Change(step.agent, "stop", f"cannot be trained: {what}", why)


def _forecast(step: Step, wish: Wish, build: _Build, project: Project) -> Forecast:
    before = _before(step, wish.requests[0].base_model, project)
    return forecast(build(), wish.requests, project, before)


def _before(step: Step, base_model: str, project: Project) -> Before | None:
    old = step.recorded.get("fingerprint")
    if not old or old == step.wanted["fingerprint"]:
        return None
    tokens = recorded_tokens(old, base_model, project)
    return Before(int(step.recorded["examples"]), tokens.count) if tokens else None


def _model_reasons(step: Step, build: _Build, project: Project) -> tuple[str, ...]:
    reasons: list[str] = []
    if step.recorded.get("fingerprint") != step.wanted["fingerprint"]:
        reasons.append(_dataset_reason(step, build, project))
    old = {c["provider"]: c for c in step.recorded.get("candidates", ())}
    new = {c["provider"]: c for c in step.wanted["candidates"]}
    moved = sorted(old.keys() ^ new.keys())
    reasons += [f"candidate {provider} {'added' if provider in new else 'removed'}" for provider in moved]
    for provider in [name for name in new if name in old]:
        reasons += candidate_reasons(old[provider], new[provider])
    return tuple(reasons)


def candidate_reasons(old: Mapping[str, Any], new: Mapping[str, Any]) -> Sequence[str]:
    """How two recorded requests of one provider differ, in words."""
    reasons = [f"{n}: {old[n]} → {new[n]}" for n in ("base_model", "method") if old[n] != new[n]]
    before, after = json.loads(old["hyperparameters"]), json.loads(new["hyperparameters"])
    changed = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    return [*reasons, *(f"hyperparameter {name}: {before.get(name)} → {after.get(name)}" for name in changed)]


def _dataset_reason(step: Step, build: _Build, project: Project) -> str:
    said = f"dataset {str(step.recorded.get('fingerprint', ''))[:12]} → {step.wanted['fingerprint'][:12]}"
    change = _dataset_change(step, build, project)
    if change is None:
        return said
    added, removed = change.added + change.changed, change.removed + change.changed
    if not added and not removed:
        return f"{said}: another split of the same examples"
    return f"{said}: {added} example(s) added, {removed} removed"


def _dataset_change(step: Step, build: _Build, project: Project) -> DatasetChange | None:
    old = str(step.recorded.get("fingerprint", ""))
    folder = dataset_folder(project.root, old)
    if not old or old == step.wanted["fingerprint"] or not (folder / TRAIN_FILE).is_file():
        return None
    built = build()
    found = compare(recorded_lines(folder), [*built.train, *built.validation])
    return DatasetChange(len(found.added), len(found.removed), len(found.changed), found.categories)


def _deployment_change(step: Step) -> Change:
    if step.operation == "delete":
        return Change(step.agent, "remove", f"alias {step.recorded.get('alias')} no longer answers")
    alias, version, model = (step.wanted[name] for name in ("alias", "version", "model_id"))
    if step.operation == "create":
        return Change(step.agent, "deploy", f"alias {alias} → {version} ({model})")
    reasons = []
    if step.recorded.get("alias") != alias:
        reasons.append(f"alias: {step.recorded.get('alias')} → {alias}")
    if step.recorded.get("model_id") != model:
        reasons.append(f"model: {step.recorded.get('model_id') or 'route missing'} → {model}")
    return Change(step.agent, "redeploy", f"alias {alias} → {version} ({model})", tuple(reasons))


@dataclass(frozen=True, slots=True)
class Plan:
    """What one pass would do, and what the rules say of it."""

    changes: tuple[Change, ...]
    rulings: tuple[Ruling, ...] = ()
    state: str = ""
    """The version of the state that it starts from."""
    engine: str = ""
    """Pulumi's version."""

    @property
    def blocked(self) -> bool:
        """`up` would refuse."""
        return any(ruling.stands for ruling in self.rulings)


def plan_changes(project: Project) -> tuple[Change, ...]:
    """The changes of `plan_pass`."""
    return plan_pass(project).changes


def plan_pass(project: Project) -> Plan:
    """What one pass would do now. Changes nothing. Raises InvalidInput and EngineError."""
    from gitune.stack import PulumiStack  # imports pulumi, which a plan without secrets does not need

    specs = load_agents(project.root)
    wanted = wished(project)
    fetch_routes(project)
    stack = PulumiStack.open(project, wanted)
    deployment = stack.recorded()
    outputs = resource_outputs(deployment, "FineTunedModel")
    recorded = {agent: ModelState.from_outputs(found) for agent, found in outputs.items()}
    wishes = {wish.agent: wish for wish in within_budgets(wanted, project, recorded, deployment)}
    taken = take_round(project, tuple(wishes.values()), recorded, time.time())
    changes: list[Change] = []

    def note(step: Step) -> None:
        change = explain_step(step, wishes, taken, project)
        if change is not None:
            changes.append(change)

    with handed_over(taken, project) as targets:
        stack.preview(targets, note)
    rulings = judge_pass(project, specs, deployment, taken.targets)
    # The engine works on several at a time.
    return Plan(
        tuple(sorted(changes, key=lambda change: change.agent)),
        rulings,
        state_version(deployment),
        stack.engine_version,
    )
