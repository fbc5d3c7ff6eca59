"""The fate of fine-tuning jobs, whatever protocol tells of it: limits, a queue, durations, failures that come late."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from gitune.testing.conformance import LIMIT_AT_ONCE, LIMIT_IN_ALL
from tests.servers.base import Clock

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]


@dataclass(slots=True)
class Limits:
    """None is no limit."""

    running: int | None = None
    """Jobs at once."""
    total: int | None = None
    """Jobs for life; one that was refused does not count."""
    excess: Literal["fail", "queue", "refuse"] = "fail"
    """A job beyond `running` is accepted and then fails (Mistral's free trial), waits (OpenAI), or is refused (AWS)."""


@dataclass(slots=True)
class FakeJob:
    """A job as the server keeps it; `facts` are the protocol's own."""

    job_id: str
    created: float
    duration: float
    """Seconds from its start to its end."""
    facts: dict[str, Any]
    started: float | None = None
    ended: float | None = None
    failure: str = ""
    """Why it fails at the end of its duration; empty: it succeeds."""
    cancelled: bool = False
    listed: bool = True
    word: str | None = None
    """A status that no client knows, shown instead of the true one."""


@dataclass
class Jobs:
    """All jobs of an account, as of the clock's now."""

    clock: Clock
    limits: Limits = field(default_factory=Limits)
    duration: float = 600.0
    """Seconds that a job runs."""
    fail_next: list[str] = field(default_factory=list)
    """The next jobs are accepted and fail with these words."""
    lagging: bool = False
    """Jobs that are accepted now are not listed."""
    all: dict[str, FakeJob] = field(default_factory=dict)

    def refusal(self) -> str | None:
        """Why a job that is submitted now is refused at once."""
        self._settle()
        if self.limits.excess == "refuse" and self._full():
            return LIMIT_AT_ONCE
        return None

    def accept(self, job_id: str, **facts: Any) -> FakeJob:
        """Take a job. Limits whose excess fails are answered as a failure of the job, soon after."""
        self._settle()
        failure = self.fail_next.pop(0) if self.fail_next else ""
        if self.limits.total is not None and self._used() >= self.limits.total:
            failure = LIMIT_IN_ALL
        elif self.limits.excess == "fail" and self._full():
            failure = LIMIT_AT_ONCE
        duration = 5.0 if failure else self.duration
        job = FakeJob(job_id, self.clock.now, duration, facts, failure=failure, listed=not self.lagging)
        if failure:
            job.started = self.clock.now  # refused in validation: it takes no place
        self.all[job_id] = job
        self._settle()
        return job

    def cancel(self, job_id: str) -> None:
        """End a live job; an ended one stays as it is."""
        job = self.all[job_id]
        if self.state(job_id) in ("queued", "running"):
            job.cancelled, job.ended = True, self.clock.now
        self._settle()

    def state(self, job_id: str) -> State:
        """As of now."""
        self._settle()
        job = self.all[job_id]
        if job.cancelled:
            return "cancelled"
        if job.ended is not None:
            return "failed" if job.failure else "succeeded"
        return "queued" if job.started is None else "running"

    def progress(self, job_id: str) -> float:
        """Share of its duration, 0 to 1."""
        job = self.all[job_id]
        return 0.0 if job.started is None else min((self.clock.now - job.started) / job.duration, 1.0)

    def listed(self) -> list[FakeJob]:
        """Newest first."""
        self._settle()
        return [job for job in reversed(self.all.values()) if job.listed]

    def catch_up(self) -> None:
        """Lists show everything again."""
        self.lagging = False
        for job in self.all.values():
            job.listed = True

    def finish(self, job_id: str) -> None:
        """Move the clock to where the job has ended."""
        while self.state(job_id) in ("queued", "running"):
            self.clock.advance(self.duration)

    def _running(self) -> list[FakeJob]:
        live = (job for job in self.all.values() if job.started is not None and job.ended is None)
        return [job for job in live if not job.failure]

    def _used(self) -> int:
        return sum(job.failure not in (LIMIT_AT_ONCE, LIMIT_IN_ALL) for job in self.all.values())

    def _full(self) -> bool:
        return self.limits.running is not None and len(self._running()) >= self.limits.running

    def _settle(self) -> None:
        """Let everything happen that is due: ends in their order, and starts of what waited for them."""
        while True:
            live = [job for job in self.all.values() if job.started is not None and job.ended is None]
            due = [(job.started + job.duration, job) for job in live if job.started is not None]
            ended = min((item for item in due if item[0] <= self.clock.now), key=lambda item: item[0], default=None)
            if ended is not None:
                ended[1].ended = ended[0]
            freed_at = ended[0] if ended else self.clock.now
            started = self._start_waiting(freed_at)
            if ended is None and not started:
                return

    def _start_waiting(self, at: float) -> bool:
        waiting = next((job for job in self.all.values() if job.started is None and job.ended is None), None)
        if waiting is None or self._full():
            return False
        waiting.started = max(at, waiting.created)
        return True
