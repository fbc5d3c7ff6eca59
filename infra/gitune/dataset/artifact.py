"""A dataset: what a training reads, named by its content."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gitune.dataset.chat import Example, read_examples
from gitune.dataset.split import split_examples
from gitune.errors import InvalidInput, Problem
from gitune.hashing import sha256
from gitune.spec import AgentSpec

TRAIN_FILE = "train.jsonl"
VALIDATION_FILE = "validation.jsonl"
MANIFEST_FILE = "dataset.json"


@dataclass(frozen=True, slots=True)
class Dataset:
    """Canonical lines in hash order, so neither the order of sources nor of keys changes the fingerprint."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    fingerprint: str


def build_dataset(spec: AgentSpec, root: Path) -> Dataset:
    """Read, validate and split an agent's sources. Raises InvalidInput with every bad line."""
    examples, problems = check_dataset(spec, root)
    if problems:
        raise InvalidInput(problems)
    train, validation = split_examples(
        [example.canonical() for example in examples], spec.dataset.validation, spec.dataset.seed
    )
    fingerprint = sha256(["train", *train, "validation", *validation])
    return Dataset(train, validation, fingerprint)


def check_dataset(spec: AgentSpec, root: Path) -> tuple[list[Example], list[Problem]]:
    """All examples of all sources, and what is wrong with them."""
    examples: list[Example] = []
    problems: list[Problem] = []
    for source in spec.dataset.sources:
        path = spec.folder / source.path
        found, wrong = read_examples(path, _shown(path, root))
        examples += found
        problems += wrong
    return examples, [*problems, *_duplicates(examples)]


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
        manifest = {
            "fingerprint": dataset.fingerprint,
            "train": len(dataset.train),
            "validation": len(dataset.validation),
        }
        (work / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)  # half deleted by hand: the manifest is missing
        work.replace(folder)
    except OSError:
        shutil.rmtree(work, ignore_errors=True)
        if not (folder / MANIFEST_FILE).is_file():  # else another process was faster, with the same bytes
            raise
    return folder


def _duplicates(examples: Iterable[Example]) -> Iterable[Problem]:
    first: dict[str, Example] = {}
    for example in examples:
        line = example.canonical()
        if line in first:
            other = first[line]
            message = f"the same example as {other.file}:{other.line}"
            yield Problem(example.file, example.line, message, "keep one of them")
        else:
            first[line] = example


def _shown(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()
