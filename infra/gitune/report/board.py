"""Where each agent stands while `gitune up` works: events go in, rows come out. Pure; times are of one clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from gitune.events import Begun, Benchmarking, Changed, Event, Judged, Note, Stage, Sunset, Training
from gitune.report.terminal import change_lines, notice_lines

_BUSY = ("training", "benchmark", "starting", "deploying")
_WAITING = ("queued",)
_QUIET_SECONDS = 1.0
"""A stage that took less is not worth a line."""
_VERDICTS = {"pass": "passed", "fail": "failed"}


@dataclass(frozen=True, slots=True)
class Row:
    """One agent."""

    agent: str
    stage: str = ""
    provider: str = ""
    share: float | None = None
    """Done, 0 to 1."""
    words: str = ""
    place: int | None = None
    """In line at the provider, from 1."""
    since: float | None = None
    """When it began."""
    until: float | None = None
    """When it is expected to end."""
    usd: float | None = None
    estimated: bool = False
    """`usd` is what was expected, not what was billed."""

    def elapsed(self, now: float) -> float | None:
        return None if self.since is None else max(now - self.since, 0.0)

    def left(self, now: float) -> float | None:
        return None if self.until is None else max(self.until - now, 0.0)

    @property
    def cost(self) -> str:
        """In dollars; empty where it is free or nobody knows."""
        return f"{'~' if self.estimated else ''}${self.usd:,.2f}" if self.usd else ""


class Board:
    """All rows, and what goes on as a whole."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        self.stage = ""
        self.since: float | None = None

    def tell(self, event: Event, now: float) -> Row | None:
        """Returns the row that it changed."""
        match event:
            case Begun(agents=agents):
                self._rows = {agent: Row(agent) for agent in agents}
            case Stage(stage=stage, seconds=None):
                self.stage, self.since = stage, now
            case Training():
                return self._put(_training(event, self._row(event.agent), now))
            case Benchmarking():
                return self._put(_benchmark(event, self._row(event.agent), now))
            case Judged():
                stage = _VERDICTS.get(event.verdict, event.verdict)
                return self._put(_over(self._row(event.agent), stage, "" if stage == "passed" else event.reasons[0]))
            case Changed(change=change) if change.action in ("deploy", "redeploy"):
                return self._put(_over(self._row(change.agent), "deploying", change.summary))
        return None

    def rows(self, most: int) -> tuple[list[Row], dict[str, int]]:
        """At most so many by name, those that are busy before those that wait; and the others, counted by stage."""
        if len(self._rows) <= most:
            return list(self._rows.values()), {}
        ranked = sorted(self._rows.values(), key=lambda row: (_rank(row), row.place or 0, row.agent))
        others: dict[str, int] = {}
        for row in ranked[most:]:
            others[row.stage or "unchanged"] = others.get(row.stage or "unchanged", 0) + 1
        return sorted(ranked[:most], key=lambda row: row.agent), others

    def _row(self, agent: str) -> Row:
        return self._rows.get(agent) or Row(agent)

    def _put(self, row: Row) -> Row:
        self._rows[row.agent] = row
        return row


def lasting_lines(event: Event) -> Iterator[str]:
    """What stays on the screen, or in the log."""
    match event:
        case Note(text=text):
            yield text
        case Sunset(notice=notice):
            yield from (f"  {line}" for line in notice_lines([notice]))
        case Changed(change=change):
            yield from (f"  {line}" for line in change_lines(change))
        case Stage(stage=stage, seconds=float(seconds)) if seconds >= _QUIET_SECONDS:
            yield f"{stage}: {seconds:.1f} s"


def others_line(others: dict[str, int]) -> str:
    """Those that have no row."""
    return ", ".join(f"{count} {stage}" for stage, count in others.items())


def clock(seconds: float | None) -> str:
    """1:05, 2:03:04; empty where it is not known."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def in_words(parts: Iterable[str]) -> str:
    """Those that say something, with commas."""
    return ", ".join(part for part in parts if part)


def _training(event: Training, before: Row, now: float) -> Row:
    usd = event.cost_usd if event.cost_usd is not None else event.estimated_usd
    estimated = event.cost_usd is None
    words = event.detail.removeprefix(f"{event.provider}: ")
    row = Row(before.agent, provider=event.provider, words=words, usd=usd, estimated=estimated)
    if event.status == "queued" and event.place is not None:
        return replace(row, stage="queued", place=event.place, since=_since(before, "queued", now))
    if event.status == "queued":
        return replace(row, stage="starting", since=_since(before, "starting", now))
    if event.status == "running":
        since = _since(before, "training", now) if event.seconds is None else now - event.seconds
        until = None if event.eta_seconds is None else now + event.eta_seconds
        share = event.progress
        if share is None and until is not None and until > since:
            share = min((now - since) / (until - since), 1.0)
        return replace(row, stage="training", share=share, since=since, until=until)
    if event.status == "succeeded":
        return replace(row, stage="trained", words="")
    return replace(row, stage=event.status)


def _benchmark(event: Benchmarking, before: Row, now: float) -> Row:
    words = f"{event.done} of {event.total} cases, {event.model}"
    same = before.stage == "benchmark" and before.words.endswith(event.model)
    since = before.since if same and before.since is not None else now
    share = event.done / max(event.total, 1)
    until = now + (now - since) * (1 / share - 1) if event.done else None
    return replace(before, stage="benchmark", share=share, words=words, place=None, since=since, until=until)


def _over(before: Row, stage: str, words: str) -> Row:
    return replace(before, stage=stage, words=words, share=None, place=None, since=None, until=None)


def _since(before: Row, stage: str, now: float) -> float:
    return before.since if before.stage == stage and before.since is not None else now


def _rank(row: Row) -> int:
    return 0 if row.stage in _BUSY else 1 if row.stage in _WAITING else 2
