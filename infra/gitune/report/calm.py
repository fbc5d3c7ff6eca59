"""`gitune up` where nobody watches: a line when an agent moves on, and now and then one of how far it is."""

from __future__ import annotations

import time

from rich.console import Console

from gitune.events import Event
from gitune.report.board import Board, Row, clock, in_words, lasting_lines

_PAUSE_SECONDS = {"training": 30.0, "benchmark": 30.0, "queued": 600.0}
"""Between two lines of the same stage of an agent. What is not here is told by other lines: a change, the table."""
_TOLD_ONCE = ("passed", "failed", "inconclusive", "lost")


class CalmLines:
    """Plain lines: no colours, no cursor."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._board = Board()
        self._said: dict[str, tuple[str, float]] = {}
        """By agent: the stage of its last line, and when that was."""

    def tell(self, event: Event) -> None:
        now = time.monotonic()
        for line in lasting_lines(event):
            self._console.print(line, markup=False)
        row = self._board.tell(event, now)
        if row is not None and self._is_due(row, now):
            self._said[row.agent] = row.stage, now
            self._console.print(f"  {row.agent}: {describe(row, now)}", markup=False)

    def _is_due(self, row: Row, now: float) -> bool:
        stage, at = self._said.get(row.agent, ("", 0.0))
        if row.stage != stage:
            return row.stage in _PAUSE_SECONDS or row.stage in _TOLD_ONCE
        return now - at >= _PAUSE_SECONDS.get(row.stage, float("inf"))


def describe(row: Row, now: float) -> str:
    """A row in one line."""
    left = row.left(now)
    trains = row.stage == "training"
    where = f" on {row.provider}" if trains or row.stage == "queued" else ""
    place = f"#{row.place} in line" if row.place is not None else ""
    share = f"{row.share:.0%}" if row.share is not None and trains else ""
    cost = row.cost if trains else ""
    return in_words([f"{row.stage}{where}", place, share, row.words, f"{clock(left)} left" if left else "", cost])
