"""What the providers say, each asked as seldom as can be: one list of our jobs, and one of all where a slot counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gitune.errors import NotFound, ProviderError
from gitune.limits import Heard, Limits, hear, known_limits, raised
from gitune.lock import read_lock
from gitune.project import Project
from gitune.providers.base import Job, ListsAllJobs, TrainingKey
from gitune.providers.needs import declared_limits
from gitune.reconcile import ModelState, holds_model, lost
from gitune.scheduler import Use, backoff_seconds

if TYPE_CHECKING:
    from gitune.wishes import Wish

UNRECORDED = ModelState("lost")
"""Of an agent that is not in the state."""


class Look:
    """One look at every provider that matters. `states` are the recorded ones, with what was seen and heard since."""

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
        self.states = {wish.agent: recorded.get(wish.agent, UNRECORDED) for wish in wishes}
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
        elif state == UNRECORDED and not any(key in self.jobs for key in wish.keys):
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
