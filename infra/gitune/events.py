"""What `gitune up` tells while it works: values, for a live view, for calm lines, and for JSON lines alike.

docs/terminal.md names the fields; programs read them, so names stay.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from gitune.plan import Change
    from gitune.sunset import Notice

_SECONDS_BETWEEN = 0.5


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened."""

    kind: ClassVar[str]

    def facts(self) -> dict[str, Any]:
        """What JSON lines hold beside time and kind."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Begun(Event):
    """Every file is right, and the agents of the stack are known."""

    kind: ClassVar[str] = "begun"
    stack: str
    agents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Note(Event):
    """Something that a person may want to know."""

    kind: ClassVar[str] = "note"
    text: str


@dataclass(frozen=True, slots=True)
class Sunset(Event):
    """Something that an agent relies on has ended, or soon ends."""

    kind: ClassVar[str] = "sunset"
    notice: Notice

    def facts(self) -> dict[str, Any]:
        return self.notice.as_dict()


@dataclass(frozen=True, slots=True)
class Changed(Event):
    """The engine begins a change."""

    kind: ClassVar[str] = "change"
    change: Change

    def facts(self) -> dict[str, Any]:
        return self.change.as_dict()


@dataclass(frozen=True, slots=True)
class Training(Event):
    """Where an agent's training stands. Told when it moves."""

    kind: ClassVar[str] = "training"
    agent: str
    status: str
    """queued, running, succeeded, failed or lost."""
    provider: str
    job_id: str = ""
    detail: str = ""
    """What the job is doing, or why it waits or failed."""
    place: int | None = None
    """Among those that wait at the provider, from 1; None: it does not wait."""
    progress: float | None = None
    """Share done, 0 to 1."""
    seconds: float | None = None
    """Time that it has run."""
    eta_seconds: float | None = None
    cost_usd: float | None = None
    """What the provider says that it cost."""
    estimated_usd: float | None = None
    """What it was expected to cost before it began."""


@dataclass(frozen=True, slots=True)
class Benchmarking(Event):
    """A model is asked an agent's cases."""

    kind: ClassVar[str] = "benchmark"
    agent: str
    model: str
    """Which: challenger, base model, deployed model, ..."""
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Judged(Event):
    """What the gate says of a new model."""

    kind: ClassVar[str] = "verdict"
    agent: str
    verdict: str
    """pass, fail or inconclusive."""
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stage(Event):
    """A stage of the whole begins (`seconds` is None) or is over."""

    kind: ClassVar[str] = "stage"
    stage: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Settled(Event):
    """Where one agent stands at the end; the same as in `--json`."""

    kind: ClassVar[str] = "outcome"
    outcome: Mapping[str, Any]

    def facts(self) -> dict[str, Any]:
        return dict(self.outcome)


@dataclass(frozen=True, slots=True)
class Ended(Event):
    """The last event. The exit code is that of the command."""

    kind: ClassVar[str] = "end"
    exit_code: int
    error: str | None = None
    hint: str | None = None


class Reporter(Protocol):
    """Who is told: see report/live.py, report/calm.py and report/json_lines.py."""

    def tell(self, event: Event) -> None: ...


@dataclass(frozen=True, slots=True)
class Several:
    """All of them, in order."""

    reporters: Sequence[Reporter]

    def tell(self, event: Event) -> None:
        for reporter in self.reporters:
            reporter.tell(event)


def benchmark_teller(reporter: Reporter, agent: str) -> Callable[[str, int, int], None]:
    """An OnProgress of benchmark/run.py that tells the reporter: every case of a few, now and then one of thousands."""
    told = 0.0

    def tell(model: str, done: int, total: int) -> None:
        nonlocal told
        if done in (0, total) or time.monotonic() - told >= _SECONDS_BETWEEN:
            told = time.monotonic()
            reporter.tell(Benchmarking(agent, model, done, total))

    return tell
