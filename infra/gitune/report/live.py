"""`gitune up` on a terminal: a row for each agent that moves, and above it what stays. All on standard error."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gitune.events import Event, Reporter
from gitune.report.board import Board, Row, clock, lasting_lines, others_line
from gitune.report.calm import CalmLines
from gitune.report.text import fit

_TITLES = ("agent", "stage", "provider", "", "", "time", "left", "cost")
_RATIOS = (None, None, None, None, 1, None, None, None)
"""Words take what the others leave."""
_AROUND = 5
"""Lines of a screen that are not rows: an empty one, the titles, the others, the footer, the cursor."""
_STYLES = {"failed": "red", "lost": "red", "inconclusive": "yellow", "passed": "green", "queued": "dim"}


def stderr_console() -> Console:
    """Where progress goes, so that standard output carries data only."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def open_view(*, calm: bool = False) -> Iterator[Reporter]:
    """The live view where somebody watches it, else calm lines: no terminal, TERM=dumb, CI, or as the caller says."""
    console = stderr_console()
    if calm or not console.is_interactive or not console.file.isatty() or _in_ci():
        yield CalmLines(console)
        return
    with LiveView(console) as view:
        yield view


def _in_ci() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


class LiveView:
    """A context manager. What it draws is wiped out at its end; the lines above it stay."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._board = Board()
        self._live = Live(get_renderable=self.picture, console=console, transient=True, refresh_per_second=4)

    def __enter__(self) -> LiveView:
        try:
            self._live.start()
        except BaseException:  # Ctrl-C at this moment: the cursor may be hidden by then, and nothing else be done
            with contextlib.suppress(Exception):
                self._live.stop()
            self._console.show_cursor(True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def tell(self, event: Event) -> None:
        self._board.tell(event, time.monotonic())
        for line in lasting_lines(event):
            self._console.print(line, markup=False)

    def picture(self) -> RenderableType:
        """As it is now."""
        now = time.monotonic()
        width = self._console.width
        rows, others = self._board.rows(max(self._console.height - _AROUND, 1))
        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        for title, ratio in zip(_TITLES, _RATIOS, strict=True):
            right = title in ("time", "left", "cost")
            table.add_column(no_wrap=True, overflow="ellipsis", justify="right" if right else "left", ratio=ratio)
        if rows:
            table.add_row(*(Text(title, style="dim") for title in _TITLES))
        for row in rows:
            table.add_row(*_cells(row, now, 0 if width < 80 else 8 if width < 100 else 20))
        lines: list[RenderableType] = [Text(""), table]
        if others:
            lines.append(Text(f"and {others_line(others)}", style="dim"))
        if self._board.stage:
            lines.append(self._footer(now))
        return Group(*lines)

    def _footer(self, now: float) -> Text:
        took = clock(None if self._board.since is None else now - self._board.since)
        return Text(f"{self._board.stage} {took}  (Ctrl-C leaves, jobs go on)", style="dim", no_wrap=True)


def _bar(share: float, width: int) -> ProgressBar:
    return ProgressBar(total=1.0, completed=share, width=width, complete_style="cyan", finished_style="green")


def _cells(row: Row, now: float, bar_width: int) -> Iterator[RenderableType]:
    stage = f"queued #{row.place}" if row.place is not None else row.stage
    yield Text(fit(row.agent, 24))
    yield Text(stage, style=_STYLES.get(row.stage, ""))
    yield Text(row.provider)
    yield _bar(row.share, bar_width) if row.share is not None and bar_width else ""
    percent = "" if row.share is None or row.stage == "benchmark" else f"{row.share:.0%} "
    yield Text(fit(f"{percent}{row.words}", 200), style="dim" if row.stage == "queued" else "")
    yield Text(clock(row.elapsed(now)))
    yield Text(clock(row.left(now)))
    yield Text(row.cost)
