"""What a provider allows: as the stack declares it, and as its answers have told. Pure.

An answer that tells of a limit is remembered in the state of the agent that heard it, so that every clone of the
repository knows it, and the next job does not have to find it out again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from gitune.errors import ProviderError, QuotaExceeded, Retired, Unanswered, Unauthorized, Unavailable, explain

Excess = Literal["fails", "waits", "refused"]
"""What becomes of a job beyond a limit: accepted and then failed, queued by the provider, or not accepted."""
Kind = Literal["concurrent", "lifetime", "closed", "unauthorized", "unavailable"]
REMEMBERED_SECONDS = 7 * 86_400.0
"""A limit that was learned is tried again after a week: accounts are upgraded."""
REFUSED_SECONDS = 3600.0
"""So long, where a job too many is refused at once: to try costs nothing, and 429 may have meant requests, not jobs."""
IN_A_ROW_SECONDS = 3600.0
"""Answers further apart than this are not of one row."""
RETIRED_SECONDS = 86_400.0
"""An API that is gone is asked again after a day."""


@dataclass(frozen=True, slots=True)
class Declared:
    """One provider's limits as the stack has them, or as its driver knows them."""

    running: int | None = None
    """Jobs at once; None: not known."""
    total: int | Literal["unlimited"] | None = None
    """Jobs for life; None: not known."""
    excess: Excess = "fails"


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer that tells of a limit."""

    provider: str
    kind: Kind
    said: str
    at: float
    """Seconds since 1970."""
    job_id: str = ""
    """The job that failed, where the answer came after it had been accepted."""
    beside: int = 0
    """Of a full house: the most jobs of the account that were seen to run since this one was sent. No more fit."""
    retry_after: float | None = None
    """Seconds, where the provider said so."""
    count: int = 1
    """How often in a row."""
    declared: str = ""
    """What the stack declared at that time: another declaration is newer knowledge, and what was heard is forgotten."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, recorded: Mapping[str, Any]) -> Heard:
        """The inverse of `as_dict`. The engine makes numbers floats and drops None."""
        known: dict[str, Any] = {
            item.name: recorded[item.name] for item in fields(cls) if recorded.get(item.name) is not None
        }
        known |= {name: int(known[name]) for name in ("beside", "count") if name in known}
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Limits:
    """What is known of one provider's limits now."""

    running: int | None = None
    """Jobs at once; None: not known, or the provider queues by itself."""
    total: int | None = None
    """Jobs for life; None: unlimited, or not known."""
    spent: str = ""
    """What the provider said when the lifetime limit was reached; empty: it was not."""
    spent_at: float = 0.0
    closed: str = ""
    """Why it takes no jobs at all."""
    not_before: float = 0.0
    """Seconds since 1970 before which nothing is sent."""
    said: str = ""
    """Why not before then."""
    careful: bool = False
    """A job too many would be accepted and then fail, and nobody has said how many are too many."""


def kind_of(error: ProviderError) -> Kind | None:
    """What an error tells of its provider; None for one that is about this job alone."""
    match error:
        case QuotaExceeded():
            return error.kind
        case Retired():
            return "closed"
        case Unauthorized():
            return "unauthorized"
        case Unanswered():
            return None
        case Unavailable():
            return "unavailable"
    return None


def hear(
    error: ProviderError,
    provider: str,
    declared: Declared,
    now: float,
    before: Iterable[Heard] = (),
    *,
    job_id: str = "",
    beside: int = 0,
) -> tuple[Heard, ...]:
    """What an agent has heard until now, `before`, and this error. An error about the job alone adds nothing."""
    kind = kind_of(error)
    kept = tuple(before)
    if kind is None or (job_id and any(item.job_id == job_id and item.kind == kind for item in kept)):
        return kept
    same = next((item for item in kept if (item.provider, item.kind) == (provider, kind)), None)
    new = Heard(
        provider,
        kind,
        explain(error),
        now,
        job_id=job_id or (same.job_id if same else ""),  # or its late failure would be heard again
        beside=beside,
        retry_after=getattr(error, "retry_after", None),
        count=same.count + 1 if same and now - same.at < IN_A_ROW_SECONDS else 1,
        declared=_text(declared),
    )
    return (*(item for item in kept if item is not same), new)


def known_limits(
    provider: str,
    declared: Declared,
    heard: Iterable[Heard],
    now: float,
    *,
    live: int = 0,
    started: float = 0.0,
    backoff: Callable[[int, str], float],
) -> Limits:
    """One provider's limits: declared and learned, merged.

    The lower of the two counts, but never fewer at once than run right now. `started` is when this `gitune up` began:
    a wrong key that was heard before it may have been mended since.
    """
    mine = [item for item in heard if item.provider == provider and item.declared in ("", _text(declared))]
    total = declared.total if isinstance(declared.total, int) else None
    spent = _newest(mine, "lifetime", now - REMEMBERED_SECONDS)
    closed = _newest(mine, "closed", now - RETIRED_SECONDS) or _newest(mine, "unauthorized", started)
    waits = [_wait(item, backoff) for item in mine if item.kind in ("concurrent", "unavailable")]
    not_before, said = max(waits, default=(0.0, ""))
    remembered = REMEMBERED_SECONDS if declared.excess == "fails" else REFUSED_SECONDS
    learned = [item for item in mine if item.kind == "concurrent" and item.beside and now - item.at < remembered]
    running = declared.running
    if learned:
        least = max(max(learned, key=lambda item: item.at).beside, live)
        running = least if running is None else min(running, least)
    return Limits(
        running=running,
        total=total,
        spent=spent.said if spent else "",
        spent_at=spent.at if spent else 0.0,
        closed=closed.said if closed else "",
        not_before=not_before,
        said=said,
        careful=declared.excess == "fails" and (running is None or declared.total is None),
    )


def raised(heard: Iterable[Heard], running: Mapping[str, int]) -> tuple[Heard, ...]:
    """What was heard, with what is seen to run now, by provider: a full house cannot be smaller than that."""
    return tuple(
        replace(item, beside=running[item.provider])
        if item.kind == "concurrent" and running.get(item.provider, 0) > item.beside
        else item
        for item in heard
    )


def _newest(heard: Iterable[Heard], kind: Kind, since: float) -> Heard | None:
    found = [item for item in heard if item.kind == kind and item.at >= since]
    return max(found, key=lambda item: item.at, default=None)


def _wait(item: Heard, backoff: Callable[[int, str], float]) -> tuple[float, str]:
    """Retry-After is the least: a server that goes on saying "in a second" is asked less and less often, too."""
    return item.at + max(item.retry_after or 0.0, backoff(item.count, item.provider)), item.said


def _text(declared: Declared) -> str:
    return f"{declared.running}/{declared.total}"
