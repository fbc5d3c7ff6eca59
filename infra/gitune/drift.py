"""Drift: what the providers' truth differs in from what this repository records. Asks, and changes nothing.

`read_drift` gathers what is recorded and what is observed; `compare` is the whole decision, and pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from gitune.backend import recorded_deployment
from gitune.dataset import build_dataset
from gitune.deploy import Route, read_routes
from gitune.errors import InvalidInput, Problem, ProviderError, Unauthorized, Unavailable, explain
from gitune.history import COMMITTED
from gitune.lock import Lock, read_lock
from gitune.project import Project, training_requests
from gitune.providers.base import Job, ListedJob, ListsAllJobs, Model, Provider, TrainingKey, short
from gitune.reconcile import ModelState
from gitune.shared_routes import fetch_routes
from gitune.spec import AgentSpec, load_agents
from gitune.state import resource_outputs

Kind = Literal[
    "model-missing",
    "model-archived",
    "job-failed",
    "job-gone",
    "unknown-job",
    "alias-mismatch",
    "unreachable",
    "not-checked",
    "live-use",
]
NOTES: frozenset[Kind] = frozenset({"unreachable", "not-checked", "live-use"})
"""What is told beside drift, and is none."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that differs, or a note."""

    kind: Kind
    agent: str
    """Empty: it concerns a provider's account, not an agent."""
    provider: str
    message: str
    hint: str = ""
    """What to do next."""

    @property
    def drift(self) -> bool:
        return self.kind not in NOTES

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "drift": self.drift}


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a repository says of one stack."""

    stack: str
    locks: Mapping[str, Lock]
    """By agent."""
    models: Mapping[str, ModelState]
    """By agent, as the engine recorded them."""
    aliases: Mapping[str, str]
    """Declared alias → agent; empty where the stack declares no deployments."""
    deployed: frozenset[str]
    """Aliases that the engine recorded."""
    keys: frozenset[str]
    """First digits of every training key that an agent, a lock or a state of the repository knows."""
    lock_files: Mapping[str, str]
    """By agent, below the repository."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What one provider says."""

    account: Sequence[ListedJob] | None = None
    """All its jobs; None: it cannot list them, or did not answer."""
    jobs: Mapping[TrainingKey, Job | None] = field(default_factory=dict)
    """The recorded jobs that `account` does not show as live or succeeded, asked for by key. None: there is no job."""
    models: Mapping[str, Model | None] = field(default_factory=dict)
    """By model ID. None: there is no model."""
    lists_all: bool = True
    unreachable: str = ""
    """Why a question was not answered."""


def compare(
    recorded: Recorded, observed: Mapping[str, Observed], routes: Mapping[str, Route] | None
) -> tuple[Finding, ...]:
    """All findings: drift of agents, then of accounts, then notes. What was not answered is no drift.

    `observed` is by provider; `routes` is None where the stack declares no deployments.
    """
    found: list[Finding] = []
    for agent in sorted(recorded.locks.keys() | recorded.models.keys()):
        found += _model_findings(agent, recorded, observed)
        found += _job_findings(agent, recorded, observed)
    found += _alias_findings(recorded, routes) if routes is not None else ()
    for provider in sorted(observed):
        found += _account_findings(provider, recorded, observed[provider])
    return tuple(sorted(found, key=lambda finding: (not finding.drift, not finding.agent, finding.agent)))


def _model_findings(agent: str, recorded: Recorded, observed: Mapping[str, Observed]) -> Iterator[Finding]:
    for provider, model_id, name in _models_of(agent, recorded):
        models = observed[provider].models
        if model_id not in models:
            continue
        model = models[model_id]
        if model is None:
            hint = _replace_hint(agent, model_id, recorded, observed)
            yield Finding("model-missing", agent, provider, f"{provider} no longer has the {name}, {model_id}", hint)
        elif model.archived:
            hint = f"unarchive it at {provider}, or {_other_model(agent, recorded)}"
            yield Finding("model-archived", agent, provider, f"the {name}, {model_id}, is archived", hint)


def _models_of(agent: str, recorded: Recorded) -> Iterator[tuple[str, str, str]]:
    """(provider, model ID, what it is to the agent), each model once."""
    lock, state = recorded.locks.get(agent), recorded.models.get(agent)
    locked = None if lock is None else (lock.provider, lock.model_id)
    if lock is not None:
        yield lock.provider, lock.model_id, f"locked model {lock.version}"
    if state is not None and state.status == "succeeded" and (state.provider, state.model_id) != locked:
        yield state.provider, state.model_id, "recorded model"


def _replace_hint(agent: str, model_id: str, recorded: Recorded, observed: Mapping[str, Observed]) -> str:
    """`up` trains again what has no job any more; what the provider still lists as trained is not paid for twice."""
    state = recorded.models.get(agent)
    if state is not None and state.model_id == model_id and _fate(state, observed) == "job-gone":
        return f"run: gitune up -s {recorded.stack}, which trains it again"
    return _other_model(agent, recorded)


def _other_model(agent: str, recorded: Recorded) -> str:
    if agent in recorded.locks:
        committed = recorded.lock_files[agent].startswith(f"{COMMITTED}/")
        which = f"gitune rollback {agent}" if committed else f"git log -p -- {recorded.lock_files[agent]}"
        return f"lock an earlier model: {which}"
    return f"list another candidate in agents/{agent}/agent.yaml, and run: gitune up -s {recorded.stack}"


def _job_findings(agent: str, recorded: Recorded, observed: Mapping[str, Observed]) -> Iterator[Finding]:
    state = recorded.models.get(agent)
    kind = None if state is None else _fate(state, observed)
    if state is None or kind is None:
        return
    job = observed[state.provider].jobs[TrainingKey(state.key)]
    hint = f"run: gitune up -s {recorded.stack}{', which trains it again' if state.status == 'succeeded' else ''}"
    if job is None:
        said = "has no such job"
    elif kind == "job-gone":
        said = "says that it did not end, or that what it made is gone"
    else:
        said = f"says {job.status}{f': {explain(job.error)}' if job.error else ''}"
        hint = f"run: gitune up --retry -s {recorded.stack}" if job.status == "failed" else hint
    message = f"job {state.job_id} is recorded as {state.status}, and {state.provider} {said}"
    yield Finding(kind, agent, state.provider, message, hint)


def _fate(state: ModelState, observed: Mapping[str, Observed]) -> Literal["job-failed", "job-gone"] | None:
    """What became of a job that is recorded as running or succeeded, if that is something else."""
    if state.status not in ("running", "succeeded") or state.key not in observed[state.provider].jobs:
        return None
    job = observed[state.provider].jobs[TrainingKey(state.key)]
    if job is None or job.status == "lost":
        return "job-gone"
    return "job-failed" if job.status in ("failed", "cancelled") else None


def _alias_findings(recorded: Recorded, routes: Mapping[str, Route]) -> Iterator[Finding]:
    """An alias that waits for its first deployment, or that `up` is about to take away, is the plan's to tell."""
    for alias in sorted(recorded.aliases.keys() | recorded.deployed | routes.keys()):
        route, agent = routes.get(alias), recorded.aliases.get(alias, "")
        lock = recorded.locks.get(agent)
        mend = f"run: gitune up -s {recorded.stack}"
        if lock is not None and route is not None:
            wanted = Route(agent, lock.provider, lock.model_id, lock.version)
            if route != wanted:
                message = f"alias {alias} points to {_target(route)}, and the lock says {_target(wanted)}"
                yield Finding("alias-mismatch", agent, lock.provider, message, mend)
        elif lock is not None and alias in recorded.deployed:
            message = f"alias {alias} does not answer: its route is gone, and the lock says {lock.version}"
            yield Finding("alias-mismatch", agent, lock.provider, message, mend)
        elif route is not None and alias not in recorded.deployed:
            why = f"agent {agent} has no lock" if agent else "no agent declares it"
            hint = "take its entry out of the routes file, or declare and lock an agent with this alias"
            message = f"alias {alias} points to {_target(route)}, and {why}"
            yield Finding("alias-mismatch", agent or route.agent, route.provider, message, hint)


def _target(route: Route) -> str:
    return f"{route.agent} {route.version} ({route.model_id} on {route.provider})"


def _account_findings(provider: str, recorded: Recorded, observed: Observed) -> Iterator[Finding]:
    live = [job for job in observed.account or () if job.live]
    for job in live:
        if job.key is not None and job.key not in recorded.keys:
            words = f"job {job.job_id} is {job.status}, with the training key {job.key}, which nothing here knows"
            hint = f"cancel it at {provider}, unless another repository or clone that shares the account wants it"
            yield Finding("unknown-job", "", provider, words, hint)
    others = sum(job.key is None for job in live)
    if others:
        words = f"{others} live job(s) that are not gitune's: they count towards the account's limits"
        yield Finding("live-use", "", provider, words)
    if observed.unreachable:
        hint = f"then run again: gitune drift -s {recorded.stack}"
        yield Finding("unreachable", "", provider, f"could not be asked: {observed.unreachable}", hint)
    if not observed.lists_all:
        yield Finding("not-checked", "", provider, "cannot list all jobs: those of unknown origin were not looked for")


def read_findings(path: Path) -> tuple[Finding, ...]:
    """What `gitune drift --json` wrote. Raises InvalidInput."""
    try:
        return TypeAdapter(tuple[Finding, ...]).validate_json(path.read_bytes())
    except ValidationError as error:
        hint = "make it anew: gitune drift --json"
        raise InvalidInput([Problem(str(path), 0, "not what gitune drift --json says", hint)]) from error


def read_drift(project: Project, deployment: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Compare the stack with its providers. Asks each for one list, and for each model; changes nothing.

    Raises InvalidInput for files that are wrong, and UserError for a provider that nobody knows.
    """
    specs = load_agents(project.root)
    served = "deployments" in project.stack.declare
    fetch_routes(project)
    recorded = _recorded(project, specs, deployment)
    observed = {name: _ask(project.provider(name), name, recorded) for name in _providers(project, specs, recorded)}
    if any(job.live and job.key and job.key not in recorded.keys for o in observed.values() for job in o.account or ()):
        recorded = replace(recorded, keys=recorded.keys | _all_keys(project, specs))
    return compare(recorded, observed, read_routes(project.routes_file) if served else None)


def _recorded(project: Project, specs: Sequence[AgentSpec], deployment: Mapping[str, Any]) -> Recorded:
    outputs = resource_outputs(deployment, "FineTunedModel")
    names = {spec.name for spec in specs} | outputs.keys()
    files = {name: project.lock_file(name) for name in names}
    locks = {name: lock for name, file in files.items() if (lock := read_lock(file)) is not None}
    served = "deployments" in project.stack.declare
    return Recorded(
        stack=project.stack.name,
        locks=locks,
        models={name: ModelState.from_outputs(found) for name, found in outputs.items()},
        aliases={spec.alias: spec.name for spec in specs} if served else {},
        deployed=frozenset(found["alias"] for found in resource_outputs(deployment, "Deployment").values()),
        keys=_keys(locks.values(), deployment),
        lock_files={name: file.relative_to(project.root).as_posix() for name, file in files.items()},
    )


def _keys(locks: Iterable[Lock], deployment: Mapping[str, Any]) -> frozenset[str]:
    """First digits of the training keys that these locks and this state know."""
    models = resource_outputs(deployment, "FineTunedModel").values()
    keys = [lock.job["key"] for lock in locks]
    keys += [found.get("key") for found in models]
    keys += [candidate["key"] for found in models for candidate in found.get("candidates") or ()]
    return frozenset(short(key) for key in keys if key)


def _all_keys(project: Project, specs: Sequence[AgentSpec]) -> frozenset[str]:
    """Those of every stack: its locks, its state, and what its agents want now.

    Reads all data: only asked for when a live job is not known otherwise.
    """
    fingerprints = {spec.name: build_dataset(spec, project.root).fingerprint for spec in specs}
    keys: set[str] = set()
    for file in sorted(project.root.glob("Pulumi.*.yaml")):
        stack = Project.open(file.name[len("Pulumi.") : -len(".yaml")], project.root)
        locks = map(read_lock, sorted((stack.root / stack.stack.locks).glob("*/model.lock.yaml")))
        keys |= _keys([lock for lock in locks if lock is not None], recorded_deployment(stack))
        for spec in specs:
            keys |= {short(request.key) for request in training_requests(spec, stack, fingerprints[spec.name])}
    return frozenset(keys)


def _providers(project: Project, specs: Sequence[AgentSpec], recorded: Recorded) -> Sequence[str]:
    """Whoever holds what is recorded or locked, and whoever the stack's agents may be trained by."""
    names = {lock.provider for lock in recorded.locks.values()}
    names |= {state.provider for state in recorded.models.values() if state.provider}
    if "models" in project.stack.declare:
        listed = {candidate.provider for spec in specs for candidate in spec.training}
        names |= {project.stack.provider} if project.stack.provider else listed
    return sorted(names)


def _ask(provider: Provider, name: str, recorded: Recorded) -> Observed:
    """One list of all jobs, a second one of those that it leaves in doubt, and each model."""
    states = [state for state in recorded.models.values() if state.provider == name]
    keys = [TrainingKey(state.key) for state in states if state.status in ("running", "succeeded")]
    wanted = {
        model_id for agent in recorded.lock_files for by, model_id, _ in _models_of(agent, recorded) if by == name
    }
    account: Sequence[ListedJob] | None = None
    jobs: dict[TrainingKey, Job | None] = {}
    models: dict[str, Model | None] = {}
    unreachable = ""
    try:
        account = provider.all_jobs() if isinstance(provider, ListsAllJobs) else None
        fine = {job.key for job in account or () if job.live or job.status == "succeeded"}
        doubtful = [key for key in keys if short(key) not in fine]
        found = provider.list_jobs(doubtful) if doubtful else {}
        jobs = {key: found.get(key) for key in doubtful}
    except ProviderError as error:
        unreachable = explain(error)
        if isinstance(error, Unauthorized | Unavailable):
            wanted = set()  # it would not answer about models either
    try:
        for model_id in sorted(wanted):
            models[model_id] = provider.get_model(model_id)
    except ProviderError as error:
        unreachable = unreachable or explain(error)
    return Observed(account, jobs, models, isinstance(provider, ListsAllJobs), unreachable)
