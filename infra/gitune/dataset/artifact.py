"""A dataset: what a training reads, named by its content."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gitune.dataset.build import Dataset
from gitune.dataset.describe import describe_dataset
from gitune.dataset.manifest import (
    CARD_FILE,
    MANIFEST_FILE,
    TRAIN_FILE,
    VALIDATION_FILE,
    file_facts,
    read_manifest,
)
from gitune.dataset.rules import Cleaned
from gitune.dataset.rules.report import write_report
from gitune.dataset.tokens import EstimatedTokens
from gitune.files import locked
from gitune.spec import AgentSpec


def dataset_folder(root: Path, fingerprint: str) -> Path:
    """Where the files of a dataset live, whether they are there or not."""
    return root / ".gitune" / "datasets" / fingerprint


def write_dataset(spec: AgentSpec, dataset: Dataset, root: Path) -> Path:
    """Write the files once; what is there and whole stays as it is."""
    folder = dataset_folder(root, dataset.fingerprint)
    if read_manifest(folder) is not None:
        return folder
    with new_folder(folder) as work:
        for name, lines in ((TRAIN_FILE, dataset.train), (VALIDATION_FILE, dataset.validation)):
            with (work / name).open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(f"{line}\n" for line in lines)
        write_report(Cleaned(dataset.assembled.examples, dataset.assembled.findings), work)
        # Estimated, because a base model's own tokenizer is not on every machine, and the card's bytes are hashed.
        card = describe_dataset(spec, dataset, EstimatedTokens(), root).card
        (work / CARD_FILE).write_text(card, encoding="utf-8", newline="\n")
        manifest = json.dumps(_manifest_of(dataset, work), indent=2, ensure_ascii=False)
        (work / MANIFEST_FILE).write_text(manifest + "\n", encoding="utf-8", newline="\n")
    return folder


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


def _manifest_of(dataset: Dataset, folder: Path) -> dict[str, Any]:
    """What is in the folder and where it came from; the same on every machine."""
    return {
        "fingerprint": dataset.fingerprint,
        "train": len(dataset.train),
        "validation": len(dataset.validation),
        "files": {file.name: file_facts(file).model_dump() for file in sorted(folder.iterdir())},
        "sources": [asdict(source) for source in dataset.assembled.sources],
        "shares": [asdict(share) for share in dataset.assembled.choice.shares],
        "shortfalls": list(dataset.assembled.choice.shortfalls),
    }
