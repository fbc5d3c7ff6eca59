"""dataset.json: what is in a dataset's folder. It is written last, so a folder that has it is whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gitune.errors import UserError

TRAIN_FILE = "train.jsonl"
VALIDATION_FILE = "validation.jsonl"
MANIFEST_FILE = "dataset.json"
CARD_FILE = "card.md"

_BLOCK_BYTES = 1 << 20
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_FileName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", description="Never a path: it may come from afar.")]


class FileFacts(BaseModel):
    """One file of a dataset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: _Sha256
    size: Annotated[int, Field(ge=0, description="Bytes.")]


class Manifest(BaseModel):
    """The part of dataset.json that says what is whole; the rest tells where the examples came from."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    fingerprint: _Sha256
    files: Mapping[_FileName, FileFacts]

    @classmethod
    def parse(cls, data: bytes, fingerprint: str) -> Manifest | None:
        """None for what is cut short, is of an older gitune, or belongs to another dataset."""
        try:
            manifest = cls.model_validate_json(data)
        except ValidationError:
            return None
        complete = {TRAIN_FILE, VALIDATION_FILE} <= manifest.files.keys() and MANIFEST_FILE not in manifest.files
        return manifest if complete and manifest.fingerprint == fingerprint else None


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder that is named by its fingerprint; None where a file is missing or cut short."""
    try:
        manifest = Manifest.parse((folder / MANIFEST_FILE).read_bytes(), folder.name)
        whole = manifest and all((folder / name).stat().st_size == facts.size for name, facts in manifest.files.items())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return manifest if whole else None


def file_facts(file: Path) -> FileFacts:
    """Of a file as it is now."""
    digest = hashlib.sha256()
    for block in _blocks(file):
        digest.update(block)
    return FileFacts(sha256=digest.hexdigest(), size=file.stat().st_size)


class Damaged(UserError):
    """The files are there, and are not what they were."""


def verify(folder: Path, manifest: Manifest, shown: str) -> None:
    """Compare every byte with the manifest, and the examples with the fingerprint. Raises Damaged; reads all."""
    for name, facts in manifest.files.items():
        if file_facts(folder / name) != facts:
            raise Damaged(f"{shown}/{name} is not what its {MANIFEST_FILE} says", hint=_DAMAGED.format(shown))
    if fingerprint_of(folder) != manifest.fingerprint:
        raise Damaged(f"the examples in {shown} have another fingerprint", hint=_DAMAGED.format(shown))


_DAMAGED = "delete {} and run gitune up where the agent's sources are: it is made again"


def fingerprint_of(folder: Path) -> str:
    """Of the files as they are, taken as `build_dataset` does over the lines: each is ended by a line feed."""
    digest = hashlib.sha256()
    for word, name in ((b"train\n", TRAIN_FILE), (b"validation\n", VALIDATION_FILE)):
        digest.update(word)
        for block in _blocks(folder / name):
            digest.update(block)
    return digest.hexdigest()


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            yield block
