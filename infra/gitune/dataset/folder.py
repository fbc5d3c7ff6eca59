"""Where the files of a dataset live, and how they come there whole."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gitune.dataset.manifest import read_manifest
from gitune.files import locked


def dataset_folder(root: Path, fingerprint: str) -> Path:
    """Where the files of a dataset live, whether they are there or not."""
    return root / ".gitune" / "datasets" / fingerprint


@contextlib.contextmanager
def new_folder(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """A temporary folder to fill, renamed to the dataset's `folder` at the end of the block; an error leaves nothing.

    Of two that fill the same one, the first wins; the other's is thrown away, unless it is to `replace` what is there.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder.parent))
    try:
        yield work
        work.chmod(0o755)
        with locked(folder.parent / ".lock"):
            if replace or read_manifest(folder) is None:
                shutil.rmtree(folder, ignore_errors=True)  # of an older gitune, or half deleted by hand
                work.replace(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
