"""Blocks of JSON lines → one small record an example: its hash, its stratum and where it stands.

The fast way reads a line with msgspec, which checks types while it parses, and writes it canonically. Whatever it does
not take goes the slow way, which is the only one that judges: the two agree on every example that both take.
"""

from __future__ import annotations

import io
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from gitune.dataset.chat import MAX_LINE_BYTES, MAX_PROBLEMS, Example, Message, is_clean, parse_line
from gitune.dataset.formats import ANSWER, Reader
from gitune.dataset.sampling import ARCS, RING_BYTES, arc_of
from gitune.errors import Problem

RECORD = struct.Struct(">16s8sIQI")
"""Hash, stratum, file, position, line: in the order in which equal examples are told apart."""


@dataclass(slots=True)
class Part:
    """The records of a part of a file."""

    arcs: list[bytearray] = field(default_factory=lambda: [bytearray() for _ in range(ARCS)])
    """Records by arc, in the order of lines."""
    strata: dict[bytes, str] = field(default_factory=dict)
    sizes: Counter[bytes] = field(default_factory=Counter)
    """Records by stratum."""
    problems: list[Problem] = field(default_factory=list)
    lines: int = 0
    """Line feeds of the part."""
    offset: int = 0
    """Of the part's first byte."""

    @property
    def count(self) -> int:
        return self.sizes.total()

    def add(self, example: Example, file: int, position: int) -> None:
        """The slow way's record."""
        place = place_of(example.canonical())
        stratum = stratum_of(example.stratum)
        self.strata[stratum] = example.stratum
        self.arcs[arc_of(place)] += RECORD.pack(place, stratum, file, position, example.line)
        self.sizes[stratum] += 1


def place_of(line: str) -> bytes:
    """Where a canonical line stands on the ring."""
    return sha256(f"{line}\n".encode()).digest()[:RING_BYTES]


def stratum_of(name: str) -> bytes:
    """A stratum's short name; the empty one has a name, too."""
    return sha256(name.encode()).digest()[:8]


class _Message(msgspec.Struct, gc=False, frozen=True, omit_defaults=True):
    """A plain message: anything but null in the other keys sends the line the slow way. Fields in canonical order."""

    content: Annotated[str, msgspec.Meta(min_length=1)]
    role: Literal["system", "user", "assistant"]
    tool_call_id: None = None
    tool_calls: None = None
    weight: None = None


class _System(_Message, gc=False, frozen=True, omit_defaults=True):
    role: Literal["system"]


class _User(_Message, gc=False, frozen=True, omit_defaults=True):
    role: Literal["user"]


class _Assistant(_Message, gc=False, frozen=True, omit_defaults=True):
    role: Literal["assistant"]


_BEFORE, _AFTER = b'{"messages":', b"}\n"
"""What stands around the messages in the canonical line."""


def scan_block(block: bytes, offset: int, line: int, file: int, shown: str, reader: Reader) -> Part:
    """The part of whole lines that begins `offset` bytes into the file, on line `line`; at most MAX_PROBLEMS of it."""
    part = Part(offset=offset, lines=block.count(b"\n"))
    plain = _is_plain(block, reader)
    decode_three, decode = _decoder(reader.stratify_by, _Three), _decoder(reader.stratify_by, list[_Message])
    encode, started = msgspec.json.Encoder().encode, sha256(_BEFORE).copy
    pack, arcs, strata, found = RECORD.pack, part.arcs, _Strata(part.strata), list[bytes]()
    answers = reader.stratify_by == ANSWER
    position, number = offset, line - 1
    text, stratum = b"", b""
    for raw in io.BytesIO(block):  # not split(): a block's lines all at once do not fit into the processor's cache
        start, position, number = position, position + len(raw), number + 1
        if plain and len(raw) <= MAX_LINE_BYTES:
            try:
                try:  # by far the most lines are of three messages: their roles are checked while they are parsed
                    row = decode_three(raw)
                    one, two, three = messages = row.messages
                    good = not (one.content.isspace() or two.content.isspace() or three.content.isspace())
                except msgspec.ValidationError:
                    row = decode(raw)
                    messages = row.messages
                    good = _is_good(messages)
                stratum = strata[messages[-1].content if answers else row.stratum]
                text = encode(messages)
            except _NOT_FAST:
                good = False
            if good:
                digest = started()
                digest.update(text)
                digest.update(_AFTER)
                place = digest.digest()
                arcs[place[0] >> 2] += pack(place, stratum, file, start, number)  # arc_of, but a call takes long
                found.append(stratum)
                continue
        if not raw.isspace():
            _scan_slowly(raw.removesuffix(b"\n"), start, number, file, shown, reader, part)
            if len(part.problems) > MAX_PROBLEMS:
                break
    part.sizes.update(found)
    return part


_NOT_FAST = (msgspec.DecodeError, KeyError, IndexError, UnicodeEncodeError)


def read_again(raw: bytes, place: bytes, line: int, shown: str, reader: Reader) -> Example | None:
    """The example of a line that was scanned before; None if it is no longer the one at `place`.

    Its hash says that it is what was checked then, so it is not checked again.
    """
    if _is_plain(raw, reader):
        try:
            row = _decoder(reader.stratify_by, list[_Message])(raw)
            text = msgspec.json.encode(row.messages)
        except _NOT_FAST:
            pass
        else:
            if sha256(_BEFORE + text + _AFTER).digest()[:RING_BYTES] != place:
                return None
            messages = tuple([Message(message.role, message.content) for message in row.messages])
            stratum = messages[-1].content if reader.stratify_by == ANSWER else row.stratum
            if isinstance(stratum, str):
                return Example(messages, shown, line, stratum=stratum, source=reader.source)
    problems: list[Problem] = []
    value = parse_line(raw, shown, line, problems)
    example = reader.read(value, shown, line, problems) if value is not None else None
    return example if example is not None and place_of(example.canonical()) == place else None


def _scan_slowly(raw: bytes, start: int, line: int, file: int, shown: str, reader: Reader, part: Part) -> None:
    value = parse_line(raw, shown, line, part.problems)
    example = reader.read(value, shown, line, part.problems) if value is not None else None
    if example is not None:
        part.add(example, file, start)


def _is_plain(block: bytes, reader: Reader) -> bool:
    """Whether the fast way may be tried. msgspec does not look into what it skips, so the whole block must be UTF-8."""
    if reader.format != "messages" or reader.columns or reader.stratify_by in ("messages", "weight", "tools"):
        return False
    if any(char in '\\"' or char < " " for char in reader.stratify_by):  # msgspec takes no such name
        return False
    if not block.isascii():
        try:
            block.decode()
        except UnicodeDecodeError:
            return False
    return b"\\" not in block or b"\\u0000" not in block  # the longer one takes much longer to look for


_Three: TypeAlias = tuple[_System, _User, _Assistant]


@cache
def _decoder(stratify_by: str, messages: Any) -> Callable[[bytes], Any]:
    fields: list[tuple[str, Any, Any]] = [("weight", Literal[1] | None, None), ("tools", None, None)]
    rename, plain = {}, {"stratum": ""}
    if stratify_by not in ("", ANSWER):
        fields.append(("stratum", str, msgspec.UNSET))  # elsewhere, or not text: the slow way finds it
        rename, plain = {"stratum": stratify_by}, {}
    row = msgspec.defstruct("Row", [("messages", messages), *fields], rename=rename, namespace=plain, gc=False)
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(row).decode  # line by line: decode_lines is no faster
    return decode


class _Strata(dict[str, bytes]):
    """Short names of strata, worked out once each."""

    def __init__(self, names: dict[bytes, str]) -> None:
        super().__init__()
        self._names = names

    def __missing__(self, name: Any) -> bytes:
        if not isinstance(name, str) or not is_clean(name):
            raise KeyError(name)
        short = self[name] = stratum_of(name)
        self._names[short] = name
        return short


def _is_good(messages: list[_Message]) -> bool:
    """Whether user and assistant speak in turns, after a system message or none, and each says something."""
    count = len(messages)
    first = count & 1  # an odd number of messages begins with the system's
    if count < 2 or (first and messages[0].role != "system"):
        return False
    for place, message in enumerate(messages):
        if place >= first and message.role != ("assistant" if (place - first) & 1 else "user"):
            return False
        if message.content.isspace():
            return False
    return True
