"""Small file operations that a crash cannot leave half done."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


def write_atomic(path: Path, text: str, *, durable: bool = True, mode: int = 0o644) -> None:
    """Replace the file in one step: a reader sees the old text or the new, never a part.

    `durable` waits for the disk. What can be made again need not: a machine that loses power may leave it empty.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise


def read_json(path: Path) -> Any:
    """The file's value; None when it is missing or not JSON (half written by something that died)."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError, json.JSONDecodeError):
        return None


def try_lock(path: Path, *, wait_seconds: float = 0.0) -> IO[str] | None:
    """The open, exclusively locked file, or None while someone else holds it.

    The lock is flock(2): it belongs to the open file, so a child that inherits the descriptor keeps it, and the kernel
    drops it when the last holder dies, however it dies. Close the file to release it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+", encoding="utf-8")
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if time.monotonic() >= deadline:
                file.close()
                return None
            time.sleep(0.02)


def is_locked(path: Path) -> bool:
    """Whether a living process holds `try_lock(path)`. Takes a shared lock for an instant, so askers do not collide."""
    try:
        with path.open("r", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def locked(path: Path, *, wait_seconds: float = 60.0) -> Iterator[None]:
    """Hold the lock for a block. Raises TimeoutError."""
    file = try_lock(path, wait_seconds=wait_seconds)
    if file is None:
        raise TimeoutError(f"{path.name} is held by another process")
    with file:
        yield
