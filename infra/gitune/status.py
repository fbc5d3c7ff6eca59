"""Where each agent stands: what is recorded, what its job says now, what the lock says, what answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any

from gitune.deploy import Route, read_routes
from gitune.errors import ProviderError
from gitune.lock import Lock, read_lock
from gitune.notices import notices_of
from gitune.project import Project
from gitune.providers.base import Job, TrainingKey
from gitune.reconcile import ModelState
from gitune.spec import AgentSpec, load_agents
from gitune.state import resource_outputs
from gitune.sunset import Notice


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """One row of `gitune status`."""

    agent: str
    model: str
    """Status of the training, with progress while it runs."""
    provider: str
    model_id: str
    version: str
    accuracy: float | None
    """Of the locked model, 0 to 1."""
    alias: str
    alias_note: str
    note: str
    sunset: tuple[Notice, ...] = ()
    """What it relies on that has ended, or soon ends."""

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "sunset": [notice.as_dict() for notice in self.sunset]}


def read_status(project: Project, deployment: Mapping[str, Any], today: date | None = None) -> tuple[AgentStatus, ...]:
    """Rows by agent, of what is declared or recorded. Asks the provider of every running job, nobody else."""
    specs = {spec.name: spec for spec in load_agents(project.root)}
    models = resource_outputs(deployment, "FineTunedModel")
    routes = read_routes(project.routes_file)
    notices = notices_of(specs.values(), project, today)
    rows = []
    for name in sorted(specs.keys() | models.keys()):
        state = ModelState.from_outputs(models[name]) if name in models else None
        lock = read_lock(project.lock_file(name))
        trains = "models" in project.stack.declare
        row = _row(name, specs.get(name), state, _job(project, state), lock, routes, trains=trains)
        rows.append(replace(row, sunset=tuple(notice for notice in notices if notice.agent == name)))
    return tuple(rows)


def _row(
    name: str,
    spec: AgentSpec | None,
    state: ModelState | None,
    job: Job | None,
    lock: Lock | None,
    routes: Mapping[str, Route],
    *,
    trains: bool,
) -> AgentStatus:
    alias = spec.alias if spec else ""
    route = routes.get(alias)
    return AgentStatus(
        agent=name,
        model=_model_words(state, job) if trains else "",
        provider=state.provider if state else lock.provider if lock else "",
        model_id=state.model_id if state else lock.model_id if lock else "",
        version=lock.version if lock else "",
        accuracy=lock.benchmark["accuracy"] if lock else None,
        alias=alias,
        alias_note=f"{alias} → {route.version}" if route else "not deployed",
        note=_note(spec, state, lock) if trains else _note_of_deployment(spec, lock, route),
    )


def _model_words(state: ModelState | None, job: Job | None) -> str:
    if state is None:
        return "not trained"
    if job is None or state.status != "running":
        return state.status
    return f"{job.status} {job.progress:.0%}" if job.live and job.progress else job.status


def _note(spec: AgentSpec | None, state: ModelState | None, lock: Lock | None) -> str:
    if spec is None:
        return "no longer declared: gitune up takes it out of the state and keeps the model"
    if state is None:
        return "run: gitune up"
    if state.reason:
        return state.reason
    if lock is not None and lock.model_id != state.model_id and state.status == "succeeded":
        return "the newest model is not the deployed one: run gitune up"
    return ""


def _note_of_deployment(spec: AgentSpec | None, lock: Lock | None, route: Route | None) -> str:
    """In a stack that trains nothing."""
    if spec is None:
        return "no longer declared: gitune up takes its alias away"
    if lock is None:
        return "no lock: a model that passes its gate brings one"
    if route is None or route.model_id != lock.model_id:
        return "the lock says another model than answers: run gitune up"
    return ""


def _job(project: Project, state: ModelState | None) -> Job | None:
    if state is None or state.status != "running":
        return None
    try:
        return project.provider(state.provider).find_job(TrainingKey(state.key))
    except ProviderError:
        return None
