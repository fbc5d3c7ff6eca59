"""Ctrl-C once raises KeyboardInterrupt, as ever. Twice is now: the process ends, whatever its main thread waits for."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time

from gitune.errors import EXIT_INTERRUPTED

_ONE_PRESS_SECONDS = 0.05
"""Starters such as uv pass a terminal's signal on, so that one press comes twice."""
_PATIENCE_SECONDS = 1.0
_SHOW_CURSOR = "\x1b[?25h"


def leave_at_second_interrupt() -> None:
    """Of the main thread, once for a process. Elsewhere, and where SIGINT is ignored, it does nothing.

    Handlers stay as they are: asyncio and inspect have their own. The interpreter's C handler tells a pipe of each
    signal (signal.set_wakeup_fd), and a thread reads it.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    interrupted = threading.Event()
    threading.excepthook = lambda failed: _tell_unless(interrupted, failed)
    threading.Thread(target=_watch, args=(reader, interrupted), daemon=True).start()


def leave(code: int) -> None:
    """End the process without waiting for its threads: what they do is repeated or found by the next call."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # closed, or nobody reads it any more
            continue
    os._exit(code)


def _tell_unless(interrupted: threading.Event, failed: threading.ExceptHookArgs) -> None:
    """A thread whose pipe is closed under it, because we leave, has nothing to say."""
    if not interrupted.wait(_ONE_PRESS_SECONDS):
        threading.__excepthook__(failed)


def _watch(reader: int, interrupted: threading.Event) -> None:
    _next_interrupt(reader, None)
    interrupted.set()
    pressed = time.monotonic()
    told = False
    while True:
        again = _next_interrupt(reader, None if told else _PATIENCE_SECONDS)
        if again and time.monotonic() - pressed > _ONE_PRESS_SECONDS:
            cursor = _SHOW_CURSOR if os.isatty(2) else ""
            _say(f"interrupted twice: left at once; jobs that run go on, and gitune up goes on from here{cursor}")
            os._exit(EXIT_INTERRUPTED)
        if not again:
            told = True
            _say("leaving; Ctrl-C again leaves at once")


def _next_interrupt(reader: int, seconds: float | None) -> bool:
    """Wait for SIGINT. False: none came in time."""
    while True:
        ready, _, _ = select.select([reader], [], [], seconds)
        if not ready:
            return False
        if signal.SIGINT in os.read(reader, 64):
            return True


def _say(text: str) -> None:
    """Without the locks of streams, which a stuck thread may hold."""
    os.write(2, f"{text}\n".encode())
