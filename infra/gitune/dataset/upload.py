"""A dataset's folder → the very bytes that a provider is sent; and what stands in the way, known before they are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gitune.dataset.chat import Example, first_problems, parse_line
from gitune.dataset.formats import Reader
from gitune.dataset.manifest import TRAIN_FILE, VALIDATION_FILE
from gitune.dataset.render import Purpose, render
from gitune.errors import Problem, Rejected

if TYPE_CHECKING:
    from gitune.dataset.build import Dataset


@dataclass(frozen=True, slots=True)
class Upload:
    """Lines that end with a line feed; the same bytes for the same dataset and form, on every machine."""

    train: bytes
    validation: bytes | None
    """None: nothing is held back."""

    @property
    def train_sha256(self) -> str:
        """Hex: what the file is called at the provider, so that it is sent once."""
        return hashlib.sha256(self.train).hexdigest()

    @property
    def validation_sha256(self) -> str | None:
        return None if self.validation is None else hashlib.sha256(self.validation).hexdigest()


def upload_files(dataset: Path, form: str) -> Upload:
    """What `form` (a key of render.FORMATS) makes of a dataset. Raises Rejected with what it cannot say or take."""
    train = _rendered(dataset / TRAIN_FILE, form, "train")
    return Upload(train, _rendered(dataset / VALIDATION_FILE, form, "validation") or None)


def unsendable(dataset: Dataset, form: str) -> list[Problem]:
    """What `upload_files` would refuse of a dataset that is not written yet; line 0 is that of a file as a whole."""
    found = render(dataset.examples_of(dataset.train), form).problems
    if dataset.validation:
        found += render(dataset.examples_of(dataset.validation), form, purpose="validation").problems
    return first_problems(found)


def _rendered(path: Path, form: str, purpose: Purpose) -> bytes:
    examples = _read(path)
    if purpose == "validation" and not examples:
        return b""
    rendered = render(examples, form, purpose=purpose, file=path.name)
    if rendered.problems:
        first = rendered.problems[0]
        raise Rejected(f"{first.file}:{first.line}: {first.message}", hint=first.hint)
    return "".join(f"{line}\n" for line in rendered.lines).encode("utf-8")


def _read(path: Path) -> Sequence[Example]:
    reader, problems = Reader(), list[Problem]()
    examples: list[Example] = []
    for number, raw in enumerate(path.read_bytes().splitlines(), start=1):
        row = parse_line(raw, path.name, number, problems)
        example = None if row is None else reader.read(row, path.name, number, problems)
        if example is not None:
            examples.append(example)
    if problems:
        raise Rejected(
            f"{problems[0].file}:{problems[0].line}: {problems[0].message}", hint="run: gitune dataset build"
        )
    return examples
