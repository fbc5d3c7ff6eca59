"""A dataset: what a training reads, named by its content."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gitune.dataset.build import Dataset
from gitune.dataset.describe import describe_dataset
from gitune.dataset.folder import dataset_folder, new_folder
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
from gitune.spec import AgentSpec


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
