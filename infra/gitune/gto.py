"""The names of tags in the convention of GTO (https://github.com/iterative/gto), so that `gto show` reads them.

    support@v1.2.0          registers version 1.2.0 of support, at the commit that brought its lock
    support#production#3    assigns the version of that commit to production: the third such tag of support
    support#production!#4   takes it out of production
    support@v1.2.0!         takes the registration back

The counter runs over all tags of an agent that have one. GTO reads annotated tags only, in the order of their times.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gitune.git import Tag
from gitune.spec import AGENT_NAME

PRODUCTION = "production"
_VERSION = r"(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?"
STAGE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9/_-]*[A-Za-z0-9])?")
"""What GTO takes as a stage's name."""
_NAME = re.compile(
    rf"(?P<agent>{AGENT_NAME.pattern})(?:@v(?P<version>{_VERSION})|#(?P<stage>{STAGE.pattern}))"
    r"(?P<cancel>!?)(?:#(?P<counter>\d+))?"
)


@dataclass(frozen=True, slots=True)
class Event:
    """What one tag says of an agent: either a version or a stage is named."""

    agent: str
    version: str | None
    stage: str | None
    cancelled: bool
    counter: int
    """0 where the tag has none."""
    tag: Tag


def event_of(tag: Tag) -> Event | None:
    """None for a tag of another kind. Lightweight tags are events here, though GTO does not read them."""
    found = _NAME.fullmatch(tag.name)
    if found is None:
        return None
    cancelled, counter = bool(found["cancel"]), int(found["counter"] or 0)
    return Event(found["agent"], found["version"], found["stage"], cancelled, counter, tag)


def events_of(tags: Iterable[Tag]) -> tuple[Event, ...]:
    """Of annotated tags, oldest first; of one second, in the order of their counters."""
    found = [(tag.when, event) for tag in tags if tag.annotated and tag.when and (event := event_of(tag))]
    return tuple(event for _, event in sorted(found, key=lambda one: (one[0], one[1].counter, one[1].tag.name)))


def assigned(events: Sequence[Event], agent: str, stage: str) -> Event | None:
    """The event that put the present version of an agent into a stage; None where none is."""
    latest = next((event for event in reversed(events) if (event.agent, event.stage) == (agent, stage)), None)
    return None if latest is None or latest.cancelled else latest


def next_counter(tags: Iterable[Tag], agent: str) -> int:
    """As GTO counts: over all stages of an agent, lightweight tags included."""
    events = map(event_of, tags)
    return max((event.counter for event in events if event is not None and event.agent == agent), default=0) + 1


def version_tag(agent: str, version: str) -> str:
    """The tag that registers a version."""
    return f"{agent}@v{version}"


def stage_tag(agent: str, stage: str, counter: int, *, cancel: bool = False) -> str:
    """The tag that assigns the version of its commit to a stage, or takes it out."""
    return f"{agent}#{stage}{'!' if cancel else ''}#{counter}"
