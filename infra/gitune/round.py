"""One round: ask each provider once for its jobs, decide for all agents together, and hand the targets to the engine.

The engine's resources are created and updated one by one, in a process of their own, and none of them knows the others.
So `gitune up` and `gitune plan` decide before the engine runs, and leave what they decided in a file that
resources/model.py reads. `pulumi up` without gitune makes its round itself, in the first resource that needs it.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gitune.errors import NotFound, ProviderError
from gitune.limits import Heard, Limits, hear, known_limits, raised
from gitune.lock import read_lock
from gitune.project import Project
from gitune.providers.base import Job, ListsAllJobs, TrainingKey
from gitune.providers.needs import declared_limits
from gitune.reconcile import ModelState, Target, holds_model, lost, target
from gitune.scheduler import Candidate, Use, Wanted, backoff_seconds, decide, earliest

if TYPE_CHECKING:
    from gitune.wishes import Wish

ROUND_VARIABLE = "GITUNE_ROUND"
"""Names the file with the targets of this pass of the engine."""


@dataclass(frozen=True, slots=True)
class Round:
    """What was seen, and what is to be done about it."""

    targets: Mapping[str, Target]
    """By agent."""
    recorded: Mapping[str, ModelState]
    """What they were decided from."""
    jobs: Mapping[str, Job] = field(default_factory=dict)
    """By agent: the job that its target takes, as the provider has it now."""
    until: float | None = None
    """Seconds since 1970 at which the clock alone may change a target; None: never."""
    silent: Mapping[str, Heard] = field(default_factory=dict)
    """Providers whose list could not be had, and what they said."""
    seen: Mapping[str, Job | None] = field(default_factory=dict)
    """By training key, what providers said: the job, or None where there was none."""

    @property
    def states(self) -> dict[str, ModelState]:
        """By agent: what will be recorded, before any submission has been answered."""
        return {agent: wanted.state for agent, wanted in self.targets.items()}

    @property
    def due(self) -> bool:
        """Whether the engine has something to do now: more than to write down that models are there.

        That is recorded by the pass that follows the gate. From when on something counts is recorded at once, or the
        next round would count anew.
        """
        return any(
            wanted.submit is not None
            or (wanted.state.status != "succeeded" and _news(wanted.state) != _news(self._before(agent)))
            for agent, wanted in self.targets.items()
        )

    @property
    def settled(self) -> bool:
        """Whether no target can change any more by itself."""
        return all(
            wanted.submit is None and wanted.state.status in ("succeeded", "failed") for wanted in self.targets.values()
        )

    def _before(self, agent: str) -> ModelState:
        return self.recorded.get(agent, _UNRECORDED)


_UNRECORDED = ModelState("lost")


def take_round(
    project: Project,
    wishes: Sequence[Wish],
    recorded: Mapping[str, ModelState],
    now: float,
    *,
    started: float | None = None,
    retry: bool = False,
    before: Mapping[str, Heard] | None = None,
    known: Mapping[str, Job | None] | None = None,
) -> Round:
    """Ask, and decide. Starts nothing.

    `recorded` is by agent; `now` and `started`, when this command began, are in seconds since 1970; `before` is
    Round.silent of the round before, so that a provider that does not answer is asked less and less often. `known` is
    its Round.seen: then only jobs that may have changed are asked for, unless somebody is to be submitted.
    """
    look = _Look(project, wishes, recorded, now, before or {}, known or {}, retry)
    states = look.states
    limits = look.limits(now if started is None else started)
    decisions = decide(
        [_wanted(wish, states[wish.agent]) for wish in wishes],
        look.jobs,
        look.use,
        limits,
        now,
    )
    if look.remembered and any(decision.action == "submit" for decision in decisions.values()):
        return take_round(project, wishes, recorded, now, started=started, retry=retry, before=before)
    declared = {name: declared_limits(name, project.settings(name)) for name in look.providers}
    targets = {
        wish.agent: target(decisions[wish.agent], wish.requests, states[wish.agent], declared, now) for wish in wishes
    }
    jobs = {agent: decision.job for agent, decision in decisions.items() if decision.job is not None}
    return Round(targets, dict(recorded), jobs, earliest(decisions.values()), look.silent, look.seen)


class _Look:
    """What the providers say, each asked as seldom as can be: one list of our jobs, one of all where a slot counts."""

    def __init__(
        self,
        project: Project,
        wishes: Sequence[Wish],
        recorded: Mapping[str, ModelState],
        now: float,
        before: Mapping[str, Heard],
        known: Mapping[str, Job | None],
        retry: bool,
    ) -> None:
        self._project = project
        self._now = now
        self._before = before
        self._wishes = wishes
        self.states = {wish.agent: recorded.get(wish.agent, _UNRECORDED) for wish in wishes}
        self.jobs: dict[str, Job] = {}
        self.use: dict[str, Use] = {}
        self.silent: dict[str, Heard] = {}
        self._running: dict[str, int] = {}
        self._known = known
        self.remembered = False
        """Whether somebody was not asked for because of what is known."""
        self.seen: dict[str, Job | None] = {}
        self.providers = self._list()
        for wish in wishes:
            self._complete(wish)
            if retry:
                self._forgive(wish)
        self._count()
        self._raise_limits()

    def limits(self, started: float) -> dict[str, Limits]:
        """By provider, with what all agents have heard."""
        heard = [*(item for state in self.states.values() for item in state.heard), *self.silent.values()]
        return {
            name: known_limits(
                name,
                declared_limits(name, self._project.settings(name)),
                heard,
                self._now,
                live=self.use[name].live if name in self.use else 0,
                started=started,
                backoff=backoff_seconds,
            )
            for name in self.providers
        }

    def _list(self) -> tuple[str, ...]:
        """One list for each provider that matters. Returns all providers that were thought of."""
        keys: dict[str, set[TrainingKey]] = {}
        for wish in self._wishes:
            state = self.states[wish.agent]
            settled = state.status == "succeeded" and state.key in wish.keys
            for request, refused in zip(wish.requests, wish.refused, strict=True):
                asked = keys.setdefault(request.provider, set())
                # where no job can be sent, nobody need be asked, unless a job of ours is there
                if request.key == state.key or not (settled or refused):
                    if self._is_known(request.key, state):
                        self._remember(request.key)
                    else:
                        asked.add(request.key)
        for provider, wanted in keys.items():
            if not wanted or self._is_asked_later(provider):
                continue
            try:
                listed = self._project.provider(provider).list_jobs(wanted)
                self.jobs.update({str(key): job for key, job in listed.items()})
                self.seen.update({key: listed.get(key) for key in wanted})
            except ProviderError as error:
                self._is_silent(provider, error)
        return tuple(keys)

    def _is_known(self, key: str, state: ModelState) -> bool:
        """Whether nothing can have changed but by others: no job was there and none was sent, or it has ended."""
        if key not in self._known:
            return False
        job = self._known[key]
        if key == state.key and (state.status == "running" or state.not_before):
            return job is not None and not job.live and job.job_id == state.job_id
        return job is None or not job.live

    def _remember(self, key: str) -> None:
        self.remembered = True
        self.seen[key] = job = self._known[key]
        if job is not None:
            self.jobs[key] = job

    def _complete(self, wish: Wish) -> None:
        """What the list does not have: jobs that nobody could tell of, models without a job, what answers tell."""
        state = self.states[wish.agent]
        if state.status in ("running", "succeeded") and state.key in wish.keys and state.key not in self.jobs:
            found = None if state.provider in self.silent else self._found(state)
            if found is not None:
                self.jobs[state.key] = found
            elif state.provider in self.silent or self._is_held(state):
                self.jobs[state.key] = _recorded_job(state)
            else:
                self.states[wish.agent] = state = lost(state)
        elif state.status == "failed" and state.job_id and state.key in wish.keys and state.provider in self.silent:
            # nobody tells of the failed job now, and it must not be paid for anew elsewhere
            self.states[wish.agent] = state = replace(state, rejected={**state.rejected, state.key: state.reason})
        elif state == _UNRECORDED and not any(key in self.jobs for key in wish.keys):
            self._adopt_locked(wish)
        for request in wish.requests:
            job = self.jobs.get(request.key)
            if job is not None and job.status == "failed" and job.error is not None:
                declared = declared_limits(request.provider, self._project.settings(request.provider))
                beside = state.beside or 0
                heard = hear(
                    job.error, request.provider, declared, self._now, state.heard, job_id=job.job_id, beside=beside
                )
                self.states[wish.agent] = state = replace(state, heard=heard)

    def _forgive(self, wish: Wish) -> None:
        """What failed is tried anew: when its turn comes, which may be many rounds later."""
        failed = [self.jobs[key] for key in wish.keys if key in self.jobs and self.jobs[key].status == "failed"]
        forgiven = tuple(job.job_id for job in failed)
        state = self.states[wish.agent]
        queued_at = None if state.status == "failed" else state.queued_at
        self.states[wish.agent] = replace(state, rejected={}, refused_at={}, forgiven=forgiven, queued_at=queued_at)

    def _found(self, state: ModelState) -> Job | None:
        """A job that is recorded, but that no list shows: lists lag behind."""
        try:
            return self._project.provider(state.provider).find_job(TrainingKey(state.key))
        except ProviderError as error:
            self._is_silent(state.provider, error)
            return None

    def _is_held(self, state: ModelState) -> bool:
        try:
            return holds_model(state, self._project.provider(state.provider))
        except ProviderError:
            return state.status == "succeeded"

    def _adopt_locked(self, wish: Wish) -> None:
        """The model that git says was trained, where the state was lost, or never knew it."""
        lock = read_lock(self._project.lock_file(wish.agent))
        if lock is None:
            return
        for request in wish.requests:
            ours = lock.job.get("key") == request.key
            adopted = lock.job.get("key") is None and (lock.provider, lock.base_model) == (
                request.provider,
                request.base_model,
            )
            if (ours or adopted) and self._exists(request.provider, lock.model_id):
                cost, seconds = lock.job.get("cost_usd"), lock.job.get("seconds")
                job_id = lock.job.get("id") or ""
                self.jobs[request.key] = Job(
                    request.key, job_id, "succeeded", lock.model_id, seconds=seconds, cost_usd=cost
                )
                return

    def _exists(self, provider: str, model_id: str) -> bool:
        """Asked once, when nothing is recorded. Who cannot answer is believed to have it: it was paid for."""
        try:
            model = self._project.provider(provider).get_model(model_id)
        except NotFound:
            return False
        except ProviderError:
            return True
        return model is not None and not model.archived

    def _count(self) -> None:
        """The use of every provider at which some agent may want a slot."""
        pending = [wish for wish in self._wishes if not any(self._is_taken(key) for key in wish.keys)]
        names = {
            request.provider
            for wish in pending
            for request, refused in zip(wish.requests, wish.refused, strict=True)
            if not refused
        }
        for name in sorted(names):
            self.use[name] = Use(answered=False) if name in self.silent else self._use(name)

    def _raise_limits(self) -> None:
        """What an answer taught of a limit is too little if more jobs run."""
        for agent, state in self.states.items():
            if state.heard:
                self.states[agent] = replace(state, heard=raised(state.heard, self._running))

    def _use(self, name: str) -> Use:
        """Of all jobs of the account where the provider lists them, and always of ours: a list may lag behind."""
        provider = self._project.provider(name)
        ours = {job.job_id: (job.status, job.live) for job in self._jobs_at(name)}
        try:
            listed = provider.all_jobs() if isinstance(provider, ListsAllJobs) else ()
        except ProviderError as error:
            self._is_silent(name, error)
            return Use(answered=False)
        use = _use_of(ours | {job.job_id: (job.status, job.live) for job in listed})
        self._running[name] = use.live - use.waiting
        lost_answers = sum(
            state.provider == name and self._now < state.not_before and state.key not in self.jobs
            for state in self.states.values()
        )
        return replace(use, live=use.live + lost_answers, used=use.used + lost_answers)

    def _jobs_at(self, provider: str) -> Iterator[Job]:
        for wish in self._wishes:
            for request in wish.requests:
                if request.provider == provider and request.key in self.jobs:
                    yield self.jobs[request.key]

    def _is_taken(self, key: str) -> bool:
        job = self.jobs.get(key)
        return job is not None and (job.live or job.status == "succeeded")

    def _is_asked_later(self, provider: str) -> bool:
        """Who did not answer a moment ago is left alone until its time has come."""
        heard = self._before.get(provider)
        if heard is None or heard.kind not in ("unavailable", "concurrent"):
            return False
        limits = known_limits(
            provider,
            declared_limits(provider, self._project.settings(provider)),
            [heard],
            self._now,
            backoff=backoff_seconds,
        )
        if self._now >= limits.not_before:
            return False
        self.silent[provider] = heard
        return True

    def _is_silent(self, provider: str, error: ProviderError) -> None:
        declared = declared_limits(provider, self._project.settings(provider))
        before = [self._before[provider]] if provider in self._before else []
        heard = hear(error, provider, declared, self._now, before)
        if not heard or heard[-1].kind == "lifetime":
            raise error  # a list has no such answer
        self.silent[provider] = heard[-1]


def _news(state: ModelState) -> tuple[object, ...]:
    heard = [(item.at, item.beside) for item in state.heard]
    return state.status, heard, state.refused_at, state.rejected, state.forgiven


def _use_of(jobs: Mapping[str, tuple[str, bool]]) -> Use:
    live = [status for status, is_live in jobs.values() if is_live]
    return Use(len(live), live.count("queued"), sum(status != "failed" for status, _ in jobs.values()))


def _recorded_job(state: ModelState) -> Job:
    status = "succeeded" if state.status == "succeeded" else "running"
    return Job(
        TrainingKey(state.key),
        state.job_id,
        status,  # type: ignore[arg-type]
        state.model_id or None,
        seconds=state.seconds,
        cost_usd=state.cost_usd,
        detail="" if status == "succeeded" else "no answer",
    )


def _wanted(wish: Wish, state: ModelState) -> Wanted:
    candidates = tuple(
        Candidate(request.provider, request.key, wait, refused)
        for request, wait, refused in zip(wish.requests, wish.waits, wish.refused, strict=True)
    )
    return Wanted(
        wish.agent,
        candidates,
        size=wish.examples,
        queued_at=state.queued_at,
        refused_at=state.refused_at,
        rejected=state.rejected,
        not_before=state.not_before,
        forgiven=state.forgiven,
    )


@contextlib.contextmanager
def handed_over(taken: Round, project: Project) -> Iterator[Path]:
    """A file with the round's targets, for the processes of one pass."""
    folder = project.state_folder / "rounds"
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f"{project.stack.name}-", suffix=".json", dir=folder)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump({agent: wanted.as_dict() for agent, wanted in taken.targets.items()}, file)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def read_targets(path: Path) -> dict[str, Target]:
    """The targets that `handed_over` wrote."""
    written = json.loads(path.read_text(encoding="utf-8"))
    return {agent: Target.from_dict(facts) for agent, facts in written.items()}
