"""The `sources:` of agent.yaml → files on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from gitune.dataset.formats import Reader
from gitune.dataset.index import Input
from gitune.dataset.remote import fetch_remote
from gitune.dataset.sources import SourceFile, by_content
from gitune.spec import AgentSpec, Source


def inputs_of(spec: AgentSpec, root: Path, *, stratify_by: str) -> list[Input]:
    """All files of an agent's sources, each once. Raises UserError for a remote one that cannot be had."""
    found: dict[Path, Input] = {}
    for source in spec.dataset.sources:
        reader = Reader(source.format or "", _columns(source), stratify_by, spec.name)
        for file in _files(source, spec, root):
            digest = file.path.name if source.is_remote else None
            found.setdefault(file.path, Input(file, reader, source.licence, digest))
    return list(found.values())


def _files(source: Source, spec: AgentSpec, root: Path) -> Iterable[SourceFile]:
    if source.is_remote:
        yield by_content(fetch_remote(source.path, source.sha256, root))
        return
    for path in source.matches(spec.folder):
        yield by_content(SourceFile.of(path, Path(os.path.relpath(path, root)).as_posix()))


def _columns(source: Source) -> dict[str, str]:
    return source.columns.model_dump(exclude_none=True) if source.columns else {}
