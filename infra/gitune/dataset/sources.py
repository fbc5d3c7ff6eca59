"""Files of examples → rows with the line that each stands on, whatever the file's kind and compression."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias, cast

from gitune.dataset.chat import MAX_LINE_BYTES, MAX_PROBLEMS, json_detail, more_problems, parse_line, whole_lines
from gitune.errors import Problem

Kind: TypeAlias = Literal["jsonl", "json", "csv", "tsv", "parquet", "foreign"]
MAX_JSON_BYTES = 256_000_000  # a list is read as a whole

Row: TypeAlias = tuple[int, int, dict[str, Any]]
"""Position (bytes into the plain text of JSONL, else the number of the row), line or row from 1, and the value."""

KINDS: Mapping[str, Kind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
PACKED = {".gz": "gzip", ".zst": "zstd"}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file on this machine. `shown` is its name in messages."""

    path: Path
    shown: str
    kind: Kind
    packed: str = ""

    @classmethod
    def of(cls, path: Path, shown: str, name: str = "") -> SourceFile:
        """Kind and compression by the file's name; `name` where the path has another (a download)."""
        suffixes = [suffix.lower() for suffix in Path(name or path.name).suffixes]
        packed = PACKED.get(suffixes[-1], "") if suffixes else ""
        inner = suffixes[-2:-1] if packed else suffixes[-1:]
        return cls(path, shown, KINDS.get(inner[0], "jsonl") if inner else "jsonl", packed)


class DamagedFile(ValueError):
    """The file cannot be read to its end."""


@contextmanager
def open_plain(file: SourceFile) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked. Raises DamagedFile."""
    try:
        with file.path.open("rb") as raw:
            if file.packed == "gzip":
                with gzip.GzipFile(fileobj=raw) as plain:
                    yield cast("IO[bytes]", plain)
            elif file.packed == "zstd":
                with _zstd(raw) as plain:
                    yield plain
            else:
                yield raw
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DamagedFile(f"damaged gzip: {str(error)[:80]}") from error
    except OSError as error:
        raise DamagedFile(f"cannot be read: {error.strerror or error}") from error


def _zstd(raw: IO[bytes]) -> IO[bytes]:
    try:
        import zstandard
    except ImportError as error:
        raise DamagedFile("reading zstd needs the package zstandard: pip install 'gitune[data]'") from error

    class Unpacked(io.RawIOBase):
        """zstandard's reader with its own errors turned into ours, buffered by BufferedReader."""

        def __init__(self) -> None:
            self._reader = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)

        def readable(self) -> bool:
            return True

        def seekable(self) -> bool:
            return True

        def tell(self) -> int:
            return int(self._reader.tell())

        def seek(self, offset: int, whence: int = 0) -> int:  # forward only, which is all that is asked for
            return int(self._reader.seek(offset, whence))

        def readinto(self, buffer: Any) -> int:
            try:
                return int(self._reader.readinto(buffer))
            except zstandard.ZstdError as error:
                raise DamagedFile(f"damaged zstd: {str(error)[:80]}") from error

    return cast("IO[bytes]", io.BufferedReader(Unpacked(), 1 << 20))


def read_rows(file: SourceFile, problems: list[Problem]) -> Iterator[Row]:
    """Every row that can be read; the others are appended to `problems`, at most MAX_PROBLEMS and a last word."""
    before = len(problems)
    try:
        for row in _READERS[file.kind](file, problems):
            if len(problems) - before > MAX_PROBLEMS:
                break
            yield row
    except DamagedFile as error:
        problems.append(Problem(file.shown, 0, str(error)))
    if len(problems) - before > MAX_PROBLEMS:
        last = problems[before + MAX_PROBLEMS]
        problems[before + MAX_PROBLEMS :] = [more_problems(last.file, last.line)]


def _read_jsonl(file: SourceFile, problems: list[Problem]) -> Iterator[Row]:
    most = len(problems) + MAX_PROBLEMS
    with open_plain(file) as stream:
        for line, (start, raw) in enumerate(whole_lines(stream), start=1):
            if not raw.strip():
                continue
            value = parse_line(raw, file.shown, line, problems)
            if value is not None:
                yield start, line, value
            elif len(problems) > most:
                return


def _read_json(file: SourceFile, problems: list[Problem]) -> Iterator[Row]:
    """A list of objects, one by one, so that each has its line."""
    text = _json_text(file, problems)
    if text is None:
        return
    decoder, place, line, number = json.JSONDecoder(), _skip(text, 0), 1, 0
    if text[place : place + 1] != "[":
        if text.strip():
            problems.append(Problem(file.shown, 1, "not a JSON list", "expected a list of objects; or JSON lines"))
        return
    counted, place = 0, _skip(text, place + 1)
    while text[place : place + 1] != "]" or number == 0:
        if text[place : place + 1] == "]":
            return
        line, counted = line + text.count("\n", counted, place), place
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            if isinstance(error, json.JSONDecodeError):
                line = error.lineno
            problems.append(Problem(file.shown, line, f"not valid JSON: {json_detail(error)}", "a list of objects"))
            return
        if not isinstance(value, dict):
            problems.append(Problem(file.shown, line, "not a JSON object", "a list of objects"))
        elif end - place > MAX_LINE_BYTES:
            message = f"an example of {(end - place) / 1e6:.1f} MB"
            problems.append(Problem(file.shown, line, message, "at most 1 MB each"))
        else:
            yield number, line, value
        number, place = number + 1, _skip(text, end)
        mark = text[place : place + 1]
        if mark == ",":
            place = _skip(text, place + 1)
        elif mark != "]":
            line += text.count("\n", counted, place)
            problems.append(Problem(file.shown, line, "not valid JSON: the list has no end", "a list of objects"))
            return


def _json_text(file: SourceFile, problems: list[Problem]) -> str | None:
    with open_plain(file) as stream:
        content = stream.read(MAX_JSON_BYTES + 1)
    if len(content) > MAX_JSON_BYTES:
        problems.append(Problem(file.shown, 0, "a JSON list of more than 256 MB", "write JSON lines (.jsonl)"))
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        problems.append(Problem(file.shown, 0, "not UTF-8 text", "save the file as UTF-8"))
        return None


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n":
        place += 1
    return place


def _read_csv(file: SourceFile, problems: list[Problem]) -> Iterator[Row]:
    csv.field_size_limit(MAX_LINE_BYTES)
    with open_plain(file) as stream:
        rows = csv.reader(
            _text_lines(stream, file, problems), delimiter="\t" if file.kind == "tsv" else ",", strict=True
        )
        before, header, number = 0, list[str](), 0
        try:
            for cells in rows:
                line, before = before + 1, rows.line_num
                if not cells:
                    continue
                if not header:
                    header = [name.strip() for name in cells]
                    if not _good_header(header, file, line, problems):
                        return
                elif len(cells) != len(header):
                    message = f"{len(cells)} cells in a row, but {len(header)} columns"
                    problems.append(Problem(file.shown, line, message, "put quotes around text that holds a comma"))
                else:
                    yield number, line, dict(zip(header, cells, strict=True))
                    number += 1
        except csv.Error as error:
            hint = "a quote that is not closed, or a cell of more than 1 MB"
            problems.append(Problem(file.shown, before + 1, f"not valid {file.kind.upper()}: {error}", hint))


def _good_header(header: list[str], file: SourceFile, line: int, problems: list[Problem]) -> bool:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice or "" in header:
        message = f"column '{twice[0]}' stands twice" if twice and twice[0] else "a column without a name"
        problems.append(Problem(file.shown, line, message, "the first line names the columns"))
        return False
    return True


def _text_lines(stream: IO[bytes], file: SourceFile, problems: list[Problem]) -> Iterator[str]:
    for line, raw in enumerate(stream, start=1):
        try:
            text = raw.decode("utf-8-sig" if line == 1 else "utf-8")
        except UnicodeDecodeError:
            problems.append(Problem(file.shown, line, "not UTF-8 text", "save the file as UTF-8"))
            return
        if "\x00" in text:
            problems.append(Problem(file.shown, line, "holds a null byte", "save the file as UTF-8 without null bytes"))
            return
        yield text


def _read_parquet(file: SourceFile, _problems: list[Problem]) -> Iterator[Row]:
    """Rows in batches; a row's line is its number from 1."""
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise DamagedFile("reading Parquet needs the package pyarrow: pip install 'gitune[data]'") from error
    if file.packed:
        raise DamagedFile("Parquet packs its own columns: unpack this file")
    number = 0
    try:
        with parquet.ParquetFile(file.path, memory_map=True) as table:
            for batch in table.iter_batches(batch_size=4_096):
                for value in batch.to_pylist():
                    yield number, number + 1, value
                    number += 1
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DamagedFile(f"not valid Parquet: {str(error).splitlines()[0][:120]}") from error


def _read_foreign(file: SourceFile, problems: list[Problem]) -> Iterator[Row]:
    """One problem for the whole file; read line by line, each line would be one."""
    problems.append(Problem(file.shown, 0, _foreign(_head(file)) or "not text", "save the file as UTF-8"))
    yield from ()


_READERS: Mapping[Kind, Callable[[SourceFile, list[Problem]], Iterator[Row]]] = {
    "jsonl": _read_jsonl,
    "json": _read_json,
    "csv": _read_csv,
    "tsv": _read_csv,
    "parquet": _read_parquet,
    "foreign": _read_foreign,
}


def by_content(file: SourceFile) -> SourceFile:
    """The kind that the first bytes show, where the name says another: JSON lines in a .json file, as many tools write
    it, and files that are not UTF-8 text at all.
    """
    if file.kind == "parquet":
        return file
    try:
        head = _head(file)
    except DamagedFile:
        return file
    if _foreign(head):
        return replace(file, kind="foreign")
    lines = file.kind == "json" and head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
    return replace(file, kind="jsonl") if lines else file


def _head(file: SourceFile) -> bytes:
    with open_plain(file) as stream:
        return stream.read(4_096)


def _foreign(head: bytes) -> str:
    """Why a file that starts so is not UTF-8 text; empty where it may be."""
    if head and not head.strip(b"\x00"):
        return "nothing but null bytes"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\x00" in head[:2]:
        return "UTF-16 or UTF-32, not UTF-8 text"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "not text: it holds null bytes and is not UTF-8" if b"\x00" in head else ""
    return ""
