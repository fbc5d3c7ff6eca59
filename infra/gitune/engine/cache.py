"""gitune's folder in the user's cache, and the two ways in which files get there safely."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """gitune's folder below the user's cache folder; XDG_CACHE_HOME moves it."""
    return Path(platformdirs.user_cache_dir("gitune", appauthor=False))


@contextmanager
def locked(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold an exclusive lock on `path`; call `on_wait` once if another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Never deleted: a lock file that is unlinked while others wait on it protects nothing.
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that becomes `target` only if the block succeeds."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield draft
        draft.chmod(0o755)
        remove_folder(target)
        draft.rename(target)
    finally:
        remove_folder(draft)


def remove_folder(path: Path) -> None:
    """Remove a folder if it is there."""
    with suppress(FileNotFoundError):
        shutil.rmtree(path)
