"""Pure decisions: what an error means for a training, and when waiting is over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from gitune.errors import ProviderError, QuotaExceeded, Rejected, Retired, Unauthorized, Unavailable

Decision = Literal["queue", "next", "stop"]


def after_error(error: ProviderError) -> Decision:
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


def waiting_for(statuses: Mapping[str, str]) -> bool:
    """Whether any agent's recorded status can still change by itself: all but succeeded and failed."""
    return any(status not in ("succeeded", "failed") for status in statuses.values())


def pass_is_due(before: Mapping[str, str], now: Mapping[str, str], *, queued: bool) -> bool:
    """Whether the engine has something to do, now that a job has changed.

    `before` and `now` map agents to the status of their job. A job that just succeeded frees a slot for the queue; one
    that ended in any other way, or vanished, is taken up again by the engine or fails over. When all have succeeded
    and nothing is queued, the engine only has to record it, which the pass that deploys does anyway.
    """
    ended = {agent for agent, status in before.items() if now.get(agent) != status}
    went_wrong = any(now.get(agent) != "succeeded" for agent in ended)
    return went_wrong or (bool(ended) and queued)


def next_poll_seconds(polls: int, *, first: float = 0.25, longest: float = 30.0) -> float:
    """How long to wait before asking again: doubling from `first` to `longest`."""
    return min(first * 2.0 ** min(polls, 16), longest)
