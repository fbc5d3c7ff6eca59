"""Events as JSON lines, each written as it happens: `gitune up --events`. docs/terminal.md has the fields."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import TracebackType
from typing import IO

from gitune.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_USER, GituneError
from gitune.events import Ended, Event


class JsonLines:
    """A context manager: whatever ends it is told as the last event, unless `Ended` was told before."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, BrokenPipeError):
            self.tell(_end(error))

    def tell(self, event: Event) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"time": at, "kind": event.kind, **event.facts()}
        self._file.write(f"{json.dumps(line, ensure_ascii=False)}\n")
        self._file.flush()


def _end(error: BaseException) -> Ended:
    if isinstance(error, KeyboardInterrupt):
        return Ended(EXIT_INTERRUPTED)
    if isinstance(error, GituneError):
        return Ended(EXIT_USER, error.message, error.hint)
    return Ended(EXIT_USER if isinstance(error, OSError) else EXIT_BUG, f"{type(error).__name__}: {error}")
