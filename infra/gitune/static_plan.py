"""A plan from the files alone, for pull requests of strangers.

No provider is asked, no state is read, nothing is downloaded, and nothing of the repository is run. So it needs no
secret, and says what it could not know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gitune.dataset import Dataset
from gitune.errors import InvalidInput, Problem
from gitune.forecast import forecast
from gitune.lock import Lock, read_lock
from gitune.notices import notices_of
from gitune.plan import Change, PlannedCandidate, candidate_reasons
from gitune.project import Project, check_agent_files, training_requests
from gitune.providers.base import TrainingRequest
from gitune.saved_plan import SavedPlan, ends_of, plan_facts, wrong_plan
from gitune.spec import AgentSpec, read_agents

_MOST_BYTES = 100_000_000
"""Of one file of an agent: what GitHub takes without Git LFS."""
_NOT_ASKED = (
    "what providers would say: whether a model or a job is there already, how long a queue is, which limit is reached",
    "what is recorded: which models are trained and which answer; here the committed locks are taken for it",
    "whether what is spent this month leaves room in the stack's budget",
)


def static_plan(project: Project) -> SavedPlan:
    """Each agent against its committed lock. Never raises for what is wrong with an agent: the plan says it."""
    too_large = tuple(_too_large(project.root))
    if too_large:
        return wrong_plan(project, too_large)
    specs, found = read_agents(project.root)
    problems, changes, unknown = list(found), list[Change](), list(_NOT_ASKED)
    for spec in specs:
        remote = _remote_sources(spec, specs)
        if remote:
            unknown.append(f"agent {spec.name}: its examples, for {remote[0]} is not in the repository")
        wrong, dataset = ([], None) if remote else check_agent_files(spec, project)
        problems += wrong
        try:
            lock = read_lock(project.lock_file(spec.name))
        except InvalidInput as error:
            problems += error.problems
            continue
        if not wrong and "models" in project.stack.declare:
            changes += _changes(spec, dataset, lock, project)
    if problems:
        return wrong_plan(project, sorted(set(problems)))
    facts = plan_facts(project, "", None)
    ends = ends_of(notices_of(specs, project))
    return SavedPlan(**facts, changes=tuple(changes), ends=ends, unknown=tuple(unknown))


def _too_large(root: Path) -> Iterator[Problem]:
    for path in sorted((root / "agents").rglob("*")):
        if not path.is_symlink() and path.is_file() and path.stat().st_size > _MOST_BYTES:
            message = f"larger than {_MOST_BYTES // 1_000_000} MB: it is not read for a pull request"
            hint = "keep large data elsewhere, and name its address as a source"
            yield Problem(path.relative_to(root).as_posix(), 0, message, hint)


def _remote_sources(spec: AgentSpec, specs: Sequence[AgentSpec]) -> list[str]:
    """Of the agent, and of those that it mixes."""
    by_name = {other.name: other for other in specs}
    mixed = [spec, *(by_name[name] for name in spec.dataset.mix or () if name in by_name)]
    return [source.path for one in mixed for source in one.dataset.sources if source.is_remote]


def _changes(spec: AgentSpec, dataset: Dataset | None, lock: Lock | None, project: Project) -> Iterator[Change]:
    requests = training_requests(spec, project, dataset.fingerprint if dataset else "")
    candidates = tuple(
        PlannedCandidate(request.provider, request.base_model, request.key if dataset else "", taken=place == 0)
        for place, request in enumerate(requests)
    )
    reasons = tuple(_reasons(requests, dataset, lock))
    if lock is not None and not reasons:
        return
    first = requests[0]
    examples = f", {len(dataset.train)} examples" if dataset else ""
    what = f"{first.base_model} on {first.provider}{examples}"
    yield Change(
        spec.name,
        "retrain" if lock else "train",
        f"{'trains again:' if lock else 'trains'} {what}",
        reasons,
        forecast(dataset, requests, project) if dataset else None,
        candidates,
        spec.budget_usd,
    )


def _reasons(requests: Sequence[TrainingRequest], dataset: Dataset | None, lock: Lock | None) -> Iterator[str]:
    """Why the lock's model is not what the files want; nothing where a candidate would be that model."""
    if lock is None:
        return
    before = str(lock.dataset.get("fingerprint", ""))
    if dataset is not None and before != dataset.fingerprint:
        old, new = lock.dataset.get("examples"), len(dataset.train)
        yield f"dataset {before[:12]} → {dataset.fingerprint[:12]}: {old} → {new} examples"
    same = [request for request in requests if request.provider == lock.provider]
    if not same:
        yield f"candidate {lock.provider} removed"
    found = [candidate_reasons(_recorded(lock), request.recorded()) for request in same]
    yield from min(found, key=len, default=())


def _recorded(lock: Lock) -> Mapping[str, Any]:
    request = TrainingRequest(lock.provider, lock.base_model, lock.method, lock.hyperparameters, "")
    return request.recorded()
