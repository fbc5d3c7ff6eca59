"""A file of examples of whatever kind → rows, with the line that each stands on."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gitune.dataset.remote import fetch_remote
from gitune.dataset.sources import KINDS, PACKED, Kind, SourceFile, by_content, open_plain, read_rows
from gitune.dataset.urls import holds_credential, shown_url
from gitune.errors import InvalidInput, Problem, UserError

_HEAD_BYTES = 65_536
_ZIP, _PARQUET = b"PK\x03\x04", b"PAR1"


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one file. There is at least one."""

    file: SourceFile
    rows: tuple[tuple[int, dict[str, Any]], ...]
    """(line, row)"""
    sha256: str = ""
    """Of a remote file."""

    @property
    def first(self) -> dict[str, Any]:
        return self.rows[0][1]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that every row has, in the first row's order."""
        shared = set(self.first).intersection(*(row.keys() for _, row in self.rows))
        return tuple(name for name in self.first if name in shared)


def read_table(path: str, root: Path) -> Table:
    """A local file or a URL. Raises InvalidInput with every line that cannot be read, and UserError."""
    problems: list[Problem] = []
    if "://" in path:
        if holds_credential(path):
            hint = "credentials come from the environment, or from fsspec's configuration"
            raise UserError(f"the URL must not hold a password or a token: {shown_url(path)}", hint=hint)
        file = fetch_remote(path, None, root)
        digest = file.path.name
    else:
        file, digest = _local(Path(path)), ""
    file = _recognised(file)
    rows = tuple((line, row) for _, line, row in read_rows(file, problems))
    if problems:
        raise InvalidInput(problems)
    if not rows:
        raise InvalidInput([Problem(file.shown, 0, "no row in this file", "one example a row")])
    return Table(file, rows, digest)


def _local(path: Path) -> SourceFile:
    shown = path.as_posix()
    if path.is_dir():
        raise InvalidInput([Problem(shown, 0, "a folder, not a file", "name one file of it")])
    if not path.is_file():
        raise InvalidInput([Problem(shown, 0, "no such file")])
    return SourceFile.of(path, shown)


def _recognised(file: SourceFile) -> SourceFile:
    """The kind by the file's name, and by its first bytes where the name is of no known kind or says another."""
    with open_plain(file) as stream:
        head = stream.read(_HEAD_BYTES)
    if head.startswith(_ZIP):
        hint = "save a spreadsheet as CSV, and unpack an archive"
        raise InvalidInput([Problem(file.shown, 0, "a spreadsheet or a zip archive, not a file of rows", hint)])
    suffixes = [suffix.lower() for suffix in Path(file.shown).suffixes]
    named = bool(set(suffixes[-2:] if suffixes[-1:] and suffixes[-1] in PACKED else suffixes[-1:]) & KINDS.keys())
    if not named:
        file = replace(file, kind=_kind(head))
    if file.kind in ("csv", "tsv"):
        file = replace(file, kind=_separated(head, file))
    return by_content(file)


def _kind(head: bytes) -> Kind:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(_PARQUET):
        return "parquet"
    return "jsonl" if start.startswith(b"{") else "json" if start.startswith(b"[") else "csv"


def _separated(head: bytes, file: SourceFile) -> Kind:
    """Whether tabs or commas part the columns. Raises InvalidInput for what is parted by semicolons."""
    line = head.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="replace").splitlines()[:1]
    header = line[0] if line else ""
    cells = {mark: len(next(csv.reader([header], delimiter=mark), [])) for mark in "\t,;"}
    best = max(cells, key=lambda mark: cells[mark])
    if cells[best] < 2:
        return file.kind if file.kind == "tsv" else "csv"
    if best == ";":
        hint = "save it with commas or tabs between the columns"
        raise InvalidInput([Problem(file.shown, 1, "semicolons part its columns", hint)])
    return "tsv" if best == "\t" else "csv"
