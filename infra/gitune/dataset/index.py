"""Where every example of many files stands: 40 bytes each, so ten million fit in half a gigabyte.

Examples themselves are read again when they were chosen, which is cheap: a sample is small.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import NamedTuple

from gitune.dataset.chat import MAX_PROBLEMS, Example, more_problems
from gitune.dataset.formats import Reader, WrongRow, detect
from gitune.dataset.ring import Record, Rings
from gitune.dataset.scan import Part, place_of, read_again, scan_block
from gitune.dataset.sources import DamagedFile, SourceFile, open_plain, read_rows
from gitune.dataset.workers import BLOCK_BYTES, MIN_BYTES, Task, scan_in_processes
from gitune.errors import Problem, UserError

_SETTLED_SECONDS = 2.0
"""Clocks of file systems are coarse: a younger file may change again and keep its time."""
_last: tuple[object, Index] | None = None
"""The last index: agents that mix the same sources read them once."""


@dataclass(frozen=True, slots=True)
class Input:
    """One file with the way to read it; `reader.source` is the agent whose file it is. No format: it is detected."""

    file: SourceFile
    reader: Reader
    licence: str | None = None
    sha256: str | None = None
    """Of a remote file's content."""


class Repeat(NamedTuple):
    """An example that stands again in the sources of the same agent, and where the one stands that is kept."""

    file: str
    line: int
    kept_file: str
    kept_line: int


@dataclass(slots=True)
class Index:
    """All examples of some agents' sources, each once an agent."""

    inputs: tuple[Input, ...]
    rings: Rings
    names: dict[bytes, str] = field(default_factory=dict)
    """Strata's names by their short ones."""
    problems: list[Problem] = field(default_factory=list)
    shifts: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """Input → (position, what to add to the lines of records from there on)."""
    counts: Counter[int] = field(default_factory=Counter)
    """Examples by input, repeats included."""
    _repeats: tuple[Repeat, ...] | None = None

    def fetch(self, records: Iterable[Record]) -> dict[bytes, Example]:
        """The examples, read again, by place. Raises UserError when a file is no longer what it was."""
        wanted: dict[int, list[Record]] = {}
        for record in records:
            wanted.setdefault(record.file, []).append(record)
        found: dict[bytes, Example] = {}
        for number, chosen in sorted(wanted.items()):
            item = self.inputs[number]
            chosen.sort(key=attrgetter("position"))
            lines = [self.where(record)[1] for record in chosen]
            for record, example in zip(chosen, _fetch(item, chosen, lines), strict=False):
                if example is None:
                    raise UserError(f"{item.file.shown}: the file changed while it was read", hint="run it again")
                found[record.place] = example
        return found

    def repeats(self) -> tuple[Repeat, ...]:
        """All, by file and line; worked out once, because every agent that mixes these sources asks."""
        if self._repeats is None:
            pairs = self.rings.repeats()
            self._repeats = tuple(sorted(Repeat(*self.where(again), *self.where(kept)) for again, kept in pairs))
        return self._repeats

    def where(self, record: Record) -> tuple[str, int]:
        """File, as it is shown, and line."""
        shifts = self.shifts.get(record.file, [(0, 0)])
        _, shift = shifts[bisect_right(shifts, record.position, key=itemgetter(0)) - 1]
        return self.inputs[record.file].file.shown, record.line + shift


def build_index(inputs: Sequence[Input]) -> Index:
    """Read all files once. What is wrong with them is in `problems`."""
    global _last  # noqa: PLW0603
    ordered = sorted(inputs, key=lambda i: (i.reader.source, i.file.shown))
    stats = [item.file.path.stat() for item in ordered]
    if time.time() - max((stat.st_mtime for stat in stats), default=0.0) < _SETTLED_SECONDS:
        return _build(ordered)
    key = [(item, stat.st_size, stat.st_mtime_ns, stat.st_ino) for item, stat in zip(ordered, stats, strict=True)]
    if _last is None or _last[0] != key:
        _last = None  # before the new one is built: two would not fit
        _last = key, _build(ordered)
    return _last[1]


def _build(ordered: Sequence[Input]) -> Index:
    index = Index(tuple(ordered), Rings([item.reader.source for item in ordered]))
    for number, parts in _scan(index):
        index.problems += _taken_in(index, number, parts)
    index.rings.close()
    return index


def _taken_in(index: Index, number: int, parts: Iterable[Part]) -> list[Problem]:
    """Keeps a file's records. Returns what is wrong with it: at most MAX_PROBLEMS and a last word."""
    problems: list[Problem] = []
    for part in parts:
        if len(problems) <= MAX_PROBLEMS:
            problems += part.problems
        index.names.update(part.strata)
        index.counts[number] += part.count
        index.rings.add(part, number)
    if len(problems) > MAX_PROBLEMS:
        last = problems[MAX_PROBLEMS]
        problems[MAX_PROBLEMS:] = [more_problems(last.file, last.line)]
    file = index.inputs[number].file
    if not index.counts[number] and not problems:
        hint = "one JSON object with 'messages' on each line" if file.kind == "jsonl" else None
        problems.append(Problem(file.shown, 0, "no example in this file", hint))
    return problems


def _scan(index: Index) -> Iterator[tuple[int, Iterable[Part]]]:
    """Each file's parts, to be read before the next file's."""
    tasks = []
    for number, item in enumerate(index.inputs):
        problems: list[Problem] = []
        reader = _with_format(item, problems)
        if reader is None:
            yield number, [Part(problems=problems)]
            continue
        index.inputs = (*index.inputs[:number], replace(item, reader=reader), *index.inputs[number + 1 :])
        if item.file.kind == "jsonl" and not item.file.packed:
            tasks.append(Task(item.file.path, item.file.shown, number, reader))
        elif item.file.kind == "jsonl":
            yield number, _parts(item.file, number, reader)
        else:
            yield number, [_index_rows(index.inputs[number], number)]
    if sum(task.path.stat().st_size for task in tasks) < MIN_BYTES:
        for task in tasks:
            file = index.inputs[task.number].file
            yield task.number, _parts(file, task.number, task.reader)
        return
    for number, parts in groupby(scan_in_processes(tasks), key=itemgetter(0)):
        yield number, _placed(index, number, (part for _, part in parts))
    empty = {task.number for task in tasks if not task.path.stat().st_size}
    yield from ((number, ()) for number in sorted(empty))


def _placed(index: Index, number: int, parts: Iterable[Part]) -> Iterator[Part]:
    """Notes on which line each part of a file begins; problems get their lines at once, records when they are shown."""
    before = 0
    for part in parts:
        shift = before - bool(part.offset)
        index.shifts.setdefault(number, []).append((part.offset, shift))
        part.problems = [replace(problem, line=problem.line + shift) for problem in part.problems]
        before += part.lines
        yield part


def _with_format(item: Input, problems: list[Problem]) -> Reader | None:
    """The reader with the format of the file's first row, if none was declared; None if there is no such row."""
    reader = item.reader
    if reader.columns or reader.format:
        return reader
    ignored: list[Problem] = []
    for _, line, row in read_rows(item.file, ignored):
        try:
            name = detect(row)
        except WrongRow as wrong:
            problems += [*ignored, Problem(item.file.shown, line, wrong.message, wrong.hint)]
            return None
        return replace(reader, format=name)
    problems += ignored
    return None if problems else replace(reader, format="messages")


def _index_rows(item: Input, number: int) -> Part:
    part = Part()
    for position, line, row in read_rows(item.file, part.problems):
        example = item.reader.read(row, item.file.shown, line, part.problems)
        if example is not None:
            part.add(example, number, position)
    return part


def _parts(file: SourceFile, number: int, reader: Reader) -> Iterator[Part]:
    try:
        with open_plain(file) as stream:
            offset, line, rest = 0, 1, b""
            while block := stream.read(BLOCK_BYTES):
                end = block.rfind(b"\n") + 1
                if not end:
                    rest += block
                    continue
                whole, rest = rest + block[:end], block[end:]
                yield scan_block(whole, offset, line, number, file.shown, reader)
                offset, line = offset + len(whole), line + whole.count(b"\n")
            if rest:
                yield scan_block(rest, offset, line, number, file.shown, reader)
    except DamagedFile as error:
        yield Part(problems=[Problem(file.shown, 0, str(error))])


def _fetch(item: Input, records: Sequence[Record], lines: Sequence[int]) -> Iterator[Example | None]:
    """Each record's example, in one pass; None, and no more, where the file no longer has it."""
    file, reader = item.file, item.reader
    found = 0
    try:
        if file.kind == "jsonl":
            with open_plain(file) as stream:
                for record, line in zip(records, lines, strict=True):
                    stream.seek(record.position)
                    raw = stream.readline().removesuffix(b"\n")
                    yield read_again(raw, record.place, line, file.shown, reader)
                    found += 1
            return
        wrong: list[Problem] = []
        for position, line, row in read_rows(file, wrong):
            if found < len(records) and records[found].position == position:
                example = reader.read(row, file.shown, line, wrong)
                same = example is not None and place_of(example.canonical()) == records[found].place
                yield example if same else None
                found += 1
    except DamagedFile:
        pass
    if found < len(records):
        yield None
