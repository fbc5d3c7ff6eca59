"""What jobs say, in lines."""

from __future__ import annotations

from datetime import UTC, datetime


def whole_lines(text: str, *, ended: bool) -> list[str]:
    """The lines of a log. Of a job that goes on, a last line without its end is not one yet.

    Of a line that a progress bar wrote over and over, the last state.
    """
    lines = text.split("\n")
    last = lines.pop()
    if last and ended:
        lines.append(last)
    return [line.rstrip("\r").rpartition("\r")[2] for line in lines]


def told_at(seconds: float, words: str) -> str:
    """An event as a line: when it was, in UTC, and what. `seconds` since 1970."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}  {words}"
