"""The `sources:` of agent.yaml → files on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from gitune.dataset.formats import Reader
from gitune.dataset.index import Input
from gitune.dataset.remote import fetch_remote
from gitune.dataset.sources import SourceFile, by_content
from gitune.errors import InvalidInput, UserError
from gitune.spec import AgentSpec, Source
from gitune.yaml_source import parse_yaml


def inputs_of(spec: AgentSpec, root: Path, *, stratify_by: str) -> list[Input]:
    """All files of an agent's sources, each once. Raises InvalidInput for a remote one that cannot be had."""
    found: dict[Path, Input] = {}
    for number, source in enumerate(spec.dataset.sources):
        reader = Reader(source.format or "", _columns(source), stratify_by, spec.name)
        for file in _files(source, number, spec, root):
            digest = file.path.name if source.is_remote else None
            found.setdefault(file.path, Input(file, reader, source.licence, digest))
    return list(found.values())


def _files(source: Source, number: int, spec: AgentSpec, root: Path) -> Iterable[SourceFile]:
    if source.is_remote:
        try:
            fetched = fetch_remote(source.path, source.sha256, root)
        except UserError as error:
            file = parse_yaml(spec.file.read_bytes(), spec.file.relative_to(root).as_posix())
            place = ("dataset", "sources", number, "path")
            raise InvalidInput([file.problem(place, error.message, error.hint)]) from error
        yield by_content(fetched)
        return
    for path in source.matches(spec.folder):
        yield by_content(SourceFile.of(path, Path(os.path.relpath(path, root)).as_posix()))


def _columns(source: Source) -> dict[str, str]:
    return source.columns.model_dump(exclude_none=True) if source.columns else {}
