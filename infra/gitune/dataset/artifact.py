"""A dataset: what a training reads, named by its content."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gitune.dataset.build import Dataset
from gitune.dataset.rules import Cleaned
from gitune.dataset.rules.report import write_report

TRAIN_FILE = "train.jsonl"
VALIDATION_FILE = "validation.jsonl"
MANIFEST_FILE = "dataset.json"


def dataset_folder(root: Path, fingerprint: str) -> Path:
    """Where the files of a dataset live, whether they are there or not."""
    return root / ".gitune" / "datasets" / fingerprint


def write_dataset(dataset: Dataset, root: Path) -> Path:
    """Write the files once; a folder with this name is always complete, because it is renamed into place."""
    folder = dataset_folder(root, dataset.fingerprint)
    if (folder / MANIFEST_FILE).is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder.parent))
    try:
        for name, lines in ((TRAIN_FILE, dataset.train), (VALIDATION_FILE, dataset.validation)):
            (work / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        manifest = json.dumps(manifest_of(dataset), indent=2, ensure_ascii=False)
        (work / MANIFEST_FILE).write_text(manifest + "\n", encoding="utf-8")
        write_report(Cleaned(dataset.assembled.examples, dataset.assembled.findings), work)
        shutil.rmtree(folder, ignore_errors=True)  # half deleted by hand: the manifest is missing
        work.replace(folder)
    except OSError:
        shutil.rmtree(work, ignore_errors=True)
        if not (folder / MANIFEST_FILE).is_file():  # else another process was faster, with the same bytes
            raise
    return folder


def manifest_of(dataset: Dataset) -> dict[str, Any]:
    """What is in the folder and where it came from; the same on every machine."""
    return {
        "fingerprint": dataset.fingerprint,
        "train": len(dataset.train),
        "validation": len(dataset.validation),
        "sources": [asdict(source) for source in dataset.assembled.sources],
        "shares": [asdict(share) for share in dataset.assembled.choice.shares],
        "shortfalls": list(dataset.assembled.choice.shortfalls),
    }
