"""Who is trained where, now: one pure decision for all agents, from wishes, observed jobs, limits and the clock.

Nothing here waits, asks or remembers. `decide` is called before every pass of the engine and after every poll; what it
says of the same facts is the same, so it may be called as often as one likes, by anybody.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from gitune.errors import ProviderError, QuotaExceeded, Rejected, Retired, Unauthorized, Unavailable, explain
from gitune.limits import Limits
from gitune.providers.base import Job

Meaning = Literal["queue", "next", "stop"]
Action = Literal["adopt", "submit", "queue", "stop"]
_NO_REASON = ProviderError("the job failed, and its provider gives no reason", hint="run: gitune up --retry")
PROBE_SECONDS = 3600.0
"""Between two tries of a limit that does not free up by itself, where a candidate says that it is waited out."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate of one agent, as far as the decision depends on it."""

    provider: str
    key: str
    wait_seconds: float | None = None
    """How long a limit is waited out; None: as long as jobs run, and a limit that does not free up not at all."""
    refused: str = ""
    """Why it must not be submitted, known without asking: over budget, no credential. It may still be adopted."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One agent's wish, and what is recorded of it."""

    agent: str
    candidates: tuple[Candidate, ...]
    size: float = 0.0
    """Of two agents that have waited equally long the larger goes first, because the last one to start ends last."""
    queued_at: float | None = None
    """Seconds since 1970 at which it began to wait; None: it has not waited yet."""
    refused_at: Mapping[str, float] = field(default_factory=dict)
    """By training key: since when a candidate with `wait_seconds` is waited for."""
    rejected: Mapping[str, str] = field(default_factory=dict)
    """By training key: why it was refused for what it is."""
    not_before: float = 0.0
    """Seconds since 1970 until which a submission without an answer may still turn up."""
    forgiven: tuple[str, ...] = ()
    """IDs of failed jobs: somebody asked to try anew."""


@dataclass(frozen=True, slots=True)
class Use:
    """What an account's lists say of one provider."""

    live: int = 0
    """Jobs that have not ended, whoever started them."""
    waiting: int = 0
    """Those of them that have not begun: whether the provider takes them is not known yet."""
    used: int = 0
    """Jobs that count for a lifetime limit."""
    answered: bool = True
    """False: nobody knows what became of the jobs."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done for one agent."""

    action: Action
    candidate: int
    """The candidate that it is about: an index of Wanted.candidates."""
    reasons: tuple[str, ...] = ()
    """Why the candidates before it were passed over, then why it waits or stops."""
    job: Job | None = None
    """Of `adopt`: the job that is taken."""
    beside: int = 0
    """Of `submit`: jobs of the account that run meanwhile. If the answer is a full house, no fewer fit."""
    until: float | None = None
    """Of `queue`: when the clock alone may change it. None: only when a job ends."""
    place: int = 0
    """Of `queue`: its place among those that wait at this provider, from 1."""
    refused_at: Mapping[str, float] = field(default_factory=dict)
    """Wanted.refused_at, continued."""


def meaning(error: ProviderError) -> Meaning:
    """`queue`: the same candidate again later; `next`: the next candidate; `stop`: this agent needs a person.

    By class alone. A rejected dataset stops, because the next provider would be paid for the same mistake.
    """
    match error:
        case QuotaExceeded(kind="concurrent") | Unavailable():
            return "queue"
        case QuotaExceeded() | Retired() | Unauthorized():
            return "next"
        case Rejected():
            return "stop"
    return "stop"


def decide(
    wanted: Iterable[Wanted],
    jobs: Mapping[str, Job],
    use: Mapping[str, Use],
    limits: Mapping[str, Limits],
    now: float,
) -> dict[str, Decision]:
    """What is to be done for each agent, by name.

    `jobs` are the observed ones by training key; `use` and `limits` are by provider; `now` is in seconds since 1970.
    A job that runs or has succeeded is always taken, whichever candidate it is of, so nothing is paid for twice. Of
    what is left, who has waited longest chooses first, and takes the first candidate that is not ruled out; where that
    has no room, it waits there. So nobody is overtaken at a provider by one who came later.
    """
    slots = _Slots(use, limits, now)
    decisions: dict[str, Decision] = {}
    queue: list[Wanted] = []
    for agent in wanted:
        taken = _adopted(agent, jobs)
        if taken is None:
            queue.append(agent)
        else:
            decisions[agent.agent] = taken
    queue.sort(key=lambda a: (now if a.queued_at is None else a.queued_at, -a.size, a.agent))
    for agent in queue:
        decisions[agent.agent] = _choice(agent, jobs, slots, now)
    return decisions


def next_poll_seconds(polls: int, *, first: float = 0.25, longest: float = 30.0) -> float:
    """How long to wait before asking again: doubling from `first` to `longest`."""
    return min(first * 2.0 ** min(polls, 16), longest)


def backoff_seconds(attempt: int, who: str, *, first: float = 5.0, longest: float = 300.0) -> float:
    """Before the try after `attempt` failures: doubling, and a share between a half and all of it.

    Jitter ("equal jitter" of Marc Brooker, Exponential Backoff And Jitter, AWS 2015) keeps clones apart; it is drawn
    from who asks and how often, so the same facts give the same time.
    """
    most = min(first * 2.0 ** min(max(attempt - 1, 0), 16), longest)
    return most * (0.5 + random.Random(f"{who}/{attempt}").random() / 2)


def _adopted(agent: Wanted, jobs: Mapping[str, Job]) -> Decision | None:
    for number, candidate in enumerate(agent.candidates):
        job = jobs.get(candidate.key)
        if job is not None and (job.live or job.status == "succeeded"):
            return Decision("adopt", number, job=job)
    return None


def _choice(agent: Wanted, jobs: Mapping[str, Job], slots: _Slots, now: float) -> Decision:
    """The first candidate that is not ruled out."""
    passed: tuple[str, ...] = ()
    # kept also of who was waited for long enough, or has room by now: or it would be waited for anew
    waits = {c.key: agent.refused_at[c.key] for c in agent.candidates if c.key in agent.refused_at}

    def decision(action: Action, number: int, *why: str, **facts: Any) -> Decision:
        return Decision(action, number, (*passed, *why), refused_at=waits, **facts)

    for number, candidate in enumerate(agent.candidates):
        name = candidate.provider
        job = jobs.get(candidate.key)
        failed = _failure(job, agent)
        if failed is not None and meaning(failed) == "stop":
            return decision("stop", number, f"{name}: {explain(failed)}", job=job)
        if candidate.key in agent.rejected:
            return replace(decision("stop", number), reasons=(agent.rejected[candidate.key],))
        barred = candidate.refused or slots.closed(name)
        if not barred and isinstance(failed, Retired | Unauthorized):
            barred = explain(failed)
        if barred:
            passed = (*passed, f"{name}: {barred}")
            continue
        full = slots.full(name, waits_it_out=candidate.wait_seconds is not None)
        if full is None and now < agent.not_before:
            full = _Full("the answer to its submission was lost, and its job may still turn up", until=agent.not_before)
        if full is None:
            return decision("submit", number, beside=slots.take(name))
        if candidate.wait_seconds is None:
            deadline, over, late = math.inf, full.spent, ""
        else:
            deadline = waits.setdefault(candidate.key, now) + candidate.wait_seconds
            over, late = now >= deadline, ", and was waited for long enough"
        if not over:
            place = slots.reserve(name)
            until = min(math.inf if full.until is None else full.until, deadline)
            until_or_never = None if until == math.inf else until
            return decision("queue", number, f"{name}: {full.reason}", until=until_or_never, place=place)
        passed = (*passed, f"{name}: {full.reason}{late}")
    return decision("stop", len(agent.candidates) - 1, "no candidate is left")


def _failure(job: Job | None, agent: Wanted) -> ProviderError | None:
    """Why the job failed, unless somebody asked to try anew since."""
    if job is None or job.status != "failed" or job.job_id in agent.forgiven:
        return None
    return job.error or _NO_REASON


@dataclass(frozen=True, slots=True)
class _Full:
    """Why a provider takes nobody now."""

    reason: str
    spent: bool = False
    """It does not free up by itself."""
    until: float | None = None


class _Slots:
    """The room that is left at each provider while one decision is made."""

    def __init__(self, use: Mapping[str, Use], limits: Mapping[str, Limits], now: float) -> None:
        self._use = dict(use)
        self._live = {provider: known.live for provider, known in use.items()}
        self._waiting: Counter[str] = Counter()
        self._limits = limits
        self._now = now

    def closed(self, provider: str) -> str:
        return self._of(provider)[1].closed

    def full(self, provider: str, *, waits_it_out: bool) -> _Full | None:
        """None where a job may be submitted."""
        use, limits = self._of(provider)
        if limits.total is not None and use.used >= limits.total:
            return _Full(f"all {limits.total} job(s) that it may ever run are used or spoken for", spent=True)
        if limits.spent and not (waits_it_out and self._now >= limits.spent_at + PROBE_SECONDS):
            return _Full(limits.spent, spent=True, until=limits.spent_at + PROBE_SECONDS)
        if limits.spent and use.waiting:
            return _Full(limits.spent, spent=True)  # one job tells whether the limit was raised
        if self._now < limits.not_before:
            return _Full(limits.said or "no answer", until=limits.not_before)
        if not use.answered:
            return _Full(limits.said or "no answer")
        if limits.running is not None and use.live >= limits.running:
            return _Full(f"{limits.running} job(s) at once")
        if limits.careful and use.waiting:
            return _Full("its limits are not known, so one job at a time is sent until it runs")
        return None

    def take(self, provider: str) -> int:
        """Give the room to one job. Returns how many jobs are known to run beside it: those sent with it may not."""
        use, _ = self._of(provider)
        self._use[provider] = replace(use, live=use.live + 1, waiting=use.waiting + 1, used=use.used + 1)
        return self._live.get(provider, 0)

    def reserve(self, provider: str) -> int:
        """Who waits here will use one of the jobs that the account has for life. Returns how many wait, it included."""
        use, _ = self._of(provider)
        self._use[provider] = replace(use, used=use.used + 1)
        self._waiting[provider] += 1
        return self._waiting[provider]

    def _of(self, provider: str) -> tuple[Use, Limits]:
        return self._use.get(provider, Use()), self._limits.get(provider, Limits())


def earliest(decisions: Iterable[Decision]) -> float | None:
    """When the clock alone may change something; None: never."""
    return min(_moments(decisions), default=None)


def _moments(decisions: Iterable[Decision]) -> Iterator[float]:
    for decision in decisions:
        if decision.action == "queue" and decision.until is not None:
            yield decision.until
