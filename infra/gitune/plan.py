"""What a pass will do to each agent and why, in the user's words. Made from the very steps that the engine takes."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from gitune.dataset import Dataset, build_dataset, dataset_folder
from gitune.dataset.manifest import TRAIN_FILE, VALIDATION_FILE
from gitune.errors import ProviderError
from gitune.forecast import Before, Forecast, forecast, recorded_tokens
from gitune.project import Project, check_for_engine
from gitune.providers.base import TrainingKey, TrainingRequest
from gitune.spec import AgentSpec
from gitune.stack import PulumiStack, Step

_Build: TypeAlias = Callable[[], Dataset | None]
"""An agent's dataset as the files are now, built once however often it is asked for; None for one that is no more."""
Action = Literal["train", "retrain", "adopt", "resume", "deploy", "redeploy", "remove"]


@dataclass(frozen=True, slots=True)
class Change:
    """One item of a plan."""

    agent: str
    action: Action
    summary: str
    reasons: tuple[str, ...] = ()
    forecast: Forecast | None = None
    """Of a training that has yet to be paid for."""

    def as_dict(self) -> dict[str, Any]:
        facts = {"agent": self.agent, "action": self.action, "summary": self.summary, "reasons": list(self.reasons)}
        return {**facts, "forecast": self.forecast.as_dict()} if self.forecast else facts


def explain_step(step: Step, specs: Mapping[str, AgentSpec], project: Project) -> Change | None:
    """The change behind a step; None for what a user need not know (a dataset's files follow the model)."""
    if step.kind == "FineTunedModel":
        return _model_change(step, specs, project)
    if step.kind == "Deployment":
        return _deployment_change(step)
    return None


def _model_change(step: Step, specs: Mapping[str, AgentSpec], project: Project) -> Change:
    if step.operation == "delete":
        return Change(step.agent, "remove", "no longer declared; the trained model is kept")
    candidate = step.wanted["candidates"][0]
    what = f"{candidate['base_model']} on {candidate['provider']}, {int(step.wanted['examples'])} examples"
    build = functools.cache(lambda: build_dataset(specs[step.agent], project.root) if step.agent in specs else None)
    if step.operation == "create":
        return _first_training(step, build, project, what)
    reasons = _model_reasons(step, build, project)
    if not reasons:
        recorded = step.recorded.get("reason") or f"recorded as {step.recorded.get('status')}"
        return Change(step.agent, "resume", f"goes on: {what}", (str(recorded),))
    found = _known_job(project, candidate)
    if found == "succeeded":
        return Change(step.agent, "adopt", "takes the model that was trained for exactly this before", reasons)
    return Change(step.agent, "retrain", f"trains again: {what}", reasons, _forecast(step, build, project))


def _first_training(step: Step, build: _Build, project: Project, what: str) -> Change:
    status = _known_job(project, step.wanted["candidates"][0])
    if status == "succeeded":
        return Change(step.agent, "adopt", f"adopts the finished model: {what}")
    if status is not None:
        return Change(step.agent, "adopt", f"adopts the job that is {status}: {what}")
    return Change(step.agent, "train", f"trains {what}", forecast=_forecast(step, build, project))


def _forecast(step: Step, build: _Build, project: Project) -> Forecast | None:
    dataset = build()
    if dataset is None:
        return None
    requests = [TrainingRequest.from_recorded(c, step.wanted["fingerprint"]) for c in step.wanted["candidates"]]
    return forecast(dataset, requests, project, _before(step, requests[0].base_model, project))


def _before(step: Step, base_model: str, project: Project) -> Before | None:
    old = step.recorded.get("fingerprint")
    if not old or old == step.wanted["fingerprint"]:
        return None
    tokens = recorded_tokens(old, base_model, project)
    return Before(int(step.recorded["examples"]), tokens.count) if tokens else None


def _known_job(project: Project, candidate: Mapping[str, Any]) -> str | None:
    try:
        job = project.provider(candidate["provider"]).find_job(TrainingKey(candidate["key"]))
    except ProviderError:
        return None
    return job.status if job else None


def _model_reasons(step: Step, build: _Build, project: Project) -> tuple[str, ...]:
    reasons: list[str] = []
    if step.recorded.get("fingerprint") != step.wanted["fingerprint"]:
        reasons.append(_dataset_reason(step, build, project))
    old = {c["provider"]: c for c in step.recorded.get("candidates", ())}
    new = {c["provider"]: c for c in step.wanted["candidates"]}
    moved = sorted(old.keys() ^ new.keys())
    reasons += [f"candidate {provider} {'added' if provider in new else 'removed'}" for provider in moved]
    for provider in [name for name in new if name in old]:
        reasons += _candidate_reasons(old[provider], new[provider])
    return tuple(reasons)


def _candidate_reasons(old: Mapping[str, Any], new: Mapping[str, Any]) -> Sequence[str]:
    reasons = [f"{n}: {old[n]} → {new[n]}" for n in ("base_model", "method") if old[n] != new[n]]
    before, after = json.loads(old["hyperparameters"]), json.loads(new["hyperparameters"])
    changed = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    return [*reasons, *(f"hyperparameter {name}: {before.get(name)} → {after.get(name)}" for name in changed)]


def _dataset_reason(step: Step, build: _Build, project: Project) -> str:
    old_fingerprint = str(step.recorded.get("fingerprint", ""))
    change = f"dataset {old_fingerprint[:12]} → {step.wanted['fingerprint'][:12]}"
    folder = dataset_folder(project.root, old_fingerprint)
    built = build() if (folder / TRAIN_FILE).is_file() else None
    if built is None:
        return change
    new = {*built.train, *built.validation}
    old = {
        line
        for name in (TRAIN_FILE, VALIDATION_FILE)
        for line in (folder / name).read_text(encoding="utf-8").splitlines()
    }
    counts = f"{len(new - old)} example(s) added, {len(old - new)} removed"
    return f"{change}: {counts}" if new != old else f"{change}: another split of the same examples"


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


def plan_changes(project: Project) -> tuple[Change, ...]:
    """What one pass would do now. Changes nothing. Raises InvalidInput and EngineError."""
    agents = check_for_engine(project)
    changes: list[Change] = []

    def note(step: Step) -> None:
        change = explain_step(step, agents.specs, project)
        if change is not None:
            changes.append(change)

    PulumiStack.open(project, agents).preview(note)
    return tuple(changes)
