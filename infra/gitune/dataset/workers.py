"""Reads a large file of JSON lines with one process a core.

Own processes on pipes and not `multiprocessing`: that imports the main module again, which in a Pulumi program would
declare every resource twice, or forks, which breaks the threads of gRPC.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import msgspec

from gitune.dataset.chat import MAX_LINE_BYTES
from gitune.dataset.formats import Reader
from gitune.dataset.scan import Part, scan_block
from gitune.errors import Problem, UserError

BLOCK_BYTES = 8 << 20
MIN_BYTES = 48 << 20
"""A smaller file is read sooner than processes are started."""
_MAX_WORKERS = 8  # more only wait for the merge


class _Job(msgspec.Struct, array_like=True):
    path: str
    shown: str
    offset: int
    size: int
    file: int
    reader: Reader


class _Done(msgspec.Struct, array_like=True):
    offset: int
    lines: int
    arcs: list[bytearray]
    strata: dict[str, str]  # hex → name
    sizes: dict[str, int]  # hex → records
    problems: list[Problem]


def cores() -> int:
    """How many processes may run at once here."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def read_block(path: Path, offset: int, size: int) -> tuple[int, bytes]:
    """The lines that begin in `size` bytes from `offset`, and where the first of them does."""
    with path.open("rb") as file:
        start, end = _next_line(file, offset), _next_line(file, offset + size)
        file.seek(start)
        return start, file.read(end - start)


def _next_line(file: IO[bytes], offset: int) -> int:
    """Where the first line begins that does not begin before `offset`; no more than the file has.

    A line that is longer than any may be is cut there, and refused: it is not read by every block that it spans.
    """
    if not offset:
        return 0
    file.seek(offset - 1)
    return offset - 1 + len(file.readline(MAX_LINE_BYTES + 2))


@dataclass(frozen=True, slots=True)
class Task:
    """A file to scan. `number` is what its records carry."""

    path: Path
    shown: str
    number: int
    reader: Reader


def scan_in_processes(tasks: Sequence[Task]) -> Iterator[tuple[int, Part]]:
    """The parts of all files with their numbers, in the order of files and lines."""
    jobs: queue.Queue[tuple[int, _Job] | None] = queue.Queue(maxsize=2 * _MAX_WORKERS)
    done: dict[int, Part | BaseException] = {}
    ready = threading.Condition()
    sent: list[int] = []
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(_worker()) for _ in range(min(cores(), _MAX_WORKERS))]
        for worker in workers:
            threading.Thread(target=_drive, args=(worker, jobs, done, ready), daemon=True).start()
        taken = 0
        for job in (job for task in tasks for job in _jobs(task)):
            jobs.put((len(sent), job))
            sent.append(job.file)
            while taken in done:
                yield sent[taken], _taken(done.pop(taken))
                taken += 1
        for _ in workers:
            jobs.put(None)
        for place in range(taken, len(sent)):
            with ready:
                ready.wait_for(partial(done.__contains__, place))
            yield sent[place], _taken(done.pop(place))


def _jobs(task: Task) -> Iterator[_Job]:
    for offset in range(0, task.path.stat().st_size, BLOCK_BYTES):
        yield _Job(str(task.path), task.shown, offset, BLOCK_BYTES, task.number, task.reader)


def _taken(part: Part | BaseException) -> Part:
    if isinstance(part, BaseException):
        raise part
    return part


@contextlib.contextmanager
def _worker() -> Iterator[subprocess.Popen[bytes]]:
    package = str(Path(__file__).parents[2])
    path = os.pathsep.join(part for part in (package, os.environ.get("PYTHONPATH", "")) if part)
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", "from gitune.dataset.workers import serve; serve()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        yield process
    finally:
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()
        process.kill()
        process.wait()


def _drive(
    worker: subprocess.Popen[bytes],
    jobs: queue.Queue[tuple[int, _Job] | None],
    done: dict[int, Part | BaseException],
    ready: threading.Condition,
) -> None:
    """Feeds one process, in a thread. Never ends before the queue does, so that nobody waits for a place in it."""
    dead = False
    while (item := jobs.get()) is not None:
        number, job = item
        answer: Part | BaseException
        try:
            if dead or worker.stdin is None or worker.stdout is None:
                raise BrokenPipeError
            _send(worker.stdin, msgspec.msgpack.encode(job))
            answer = _part(msgspec.msgpack.decode(_receive(worker.stdout), type=_Done))
        except (OSError, EOFError, ValueError, msgspec.MsgspecError):
            dead = True
            answer = UserError(f"{job.shown}: the process that reads it was ended", hint="is there enough memory?")
        with ready:
            done[number] = answer
            ready.notify_all()


def _part(done: _Done) -> Part:
    strata = {bytes.fromhex(short): name for short, name in done.strata.items()}
    sizes = Counter({bytes.fromhex(short): size for short, size in done.sizes.items()})
    return Part(done.arcs, strata, sizes, done.problems, done.lines, done.offset)


def _send(pipe: IO[bytes], message: bytes) -> None:
    pipe.write(len(message).to_bytes(8, "big"))
    pipe.write(message)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> bytes:
    size = pipe.read(8)
    message = pipe.read(int.from_bytes(size, "big")) if len(size) == 8 else b""
    if len(size) < 8 or len(message) < int.from_bytes(size, "big"):
        raise EOFError
    return message


def serve() -> None:
    """A worker: jobs in, parts out, until standard input ends (also when its parent was killed)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent decides
    jobs, parts = sys.stdin.buffer, sys.stdout.buffer
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            job = msgspec.msgpack.decode(_receive(jobs), type=_Job)
            offset, block = read_block(Path(job.path), job.offset, job.size)
            # lines are counted from the block's first, because nobody knows yet how many stand before it; only the
            # very first line of a file may begin with a byte order mark, so that of another block is not line 1
            part = scan_block(block, offset, 2 if offset else 1, job.file, job.shown, job.reader)
            strata = {short.hex(): name for short, name in part.strata.items()}
            sizes = {short.hex(): size for short, size in part.sizes.items()}
            done = _Done(offset, part.lines, part.arcs, strata, sizes, part.problems)
            _send(parts, msgspec.msgpack.encode(done))
