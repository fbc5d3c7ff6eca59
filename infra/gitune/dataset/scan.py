"""Blocks of JSON lines → one small record an example: its hash, its stratum and where it stands.

The fast way reads a line with msgspec, which checks types while it parses, and writes it canonically. Whatever it does
not take goes the slow way, which is the only one that judges: the two agree on every example that both take.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from typing import Annotated, Any, Literal

import msgspec

from gitune.dataset.chat import MAX_LINE_BYTES, MAX_PROBLEMS, Example, Message, is_clean, parse_line
from gitune.dataset.formats import ANSWER, Reader
from gitune.errors import Problem

RECORD = struct.Struct(">16s8sIQI")
"""Hash, stratum, file, position, line: in the order in which equal examples are told apart."""
BUCKETS = 64  # by the first six bits of the hash: what is compared at once is a 64th of all


@dataclass(slots=True)
class Part:
    """The records of a part of a file."""

    buckets: list[bytearray] = field(default_factory=lambda: [bytearray() for _ in range(BUCKETS)])
    strata: dict[bytes, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    count: int = 0
    lines: int = 0
    """Line feeds of the part."""
    offset: int = 0
    """Of the part's first byte."""

    def add(self, example: Example, file: int, position: int) -> None:
        """The slow way's record."""
        digest = place_of(example.canonical())
        stratum = stratum_of(example.stratum)
        self.strata[stratum] = example.stratum
        self.buckets[digest[0] >> 2] += RECORD.pack(digest, stratum, file, position, example.line)
        self.count += 1


def place_of(line: str) -> bytes:
    """Where a canonical line stands on the ring."""
    return sha256(f"{line}\n".encode()).digest()[:16]


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


def scan_block(block: bytes, offset: int, line: int, file: int, shown: str, reader: Reader) -> Part:
    """The part of whole lines that begins `offset` bytes into the file, on line `line`; at most MAX_PROBLEMS of it."""
    part = Part(offset=offset)
    fast = _decoder(reader.stratify_by) if _is_plain(block, reader) else None
    encode = msgspec.json.Encoder().encode
    pack, buckets, strata = RECORD.pack, part.buckets, _Strata(part.strata)
    answers = reader.stratify_by == ANSWER
    position, number = offset, line - 1
    text, stratum = b"", b""
    for raw in block.split(b"\n"):
        start, position, number = position, position + len(raw) + 1, number + 1
        if fast is not None and len(raw) <= MAX_LINE_BYTES:
            try:
                row = fast(raw)
                messages = row.messages
                text = encode(messages)
                stratum = strata[messages[-1].content if answers else row.stratum]
                if len(messages) == 3:  # by far the most, and a call takes longer than the question
                    one, two, three = messages
                    good = (
                        one.role == "system"
                        and two.role == "user"
                        and three.role == "assistant"
                        and not (one.content.isspace() or two.content.isspace() or three.content.isspace())
                    )
                else:
                    good = _is_good(messages)
            except _NOT_FAST:
                good, text, stratum = False, b"", b""
            if good:
                digest = sha256(b'{"messages":' + text + b"}\n").digest()
                buckets[digest[0] >> 2] += pack(digest[:16], stratum, file, start, number)
                part.count += 1
                continue
        if raw and not raw.isspace():
            _scan_slowly(raw, start, number, file, shown, reader, part)
            if len(part.problems) > MAX_PROBLEMS:
                break
    part.lines = number - line
    return part


_NOT_FAST = (msgspec.DecodeError, KeyError, IndexError, UnicodeEncodeError)


def read_again(raw: bytes, place: bytes, line: int, shown: str, reader: Reader) -> Example | None:
    """The example of a line that was scanned before; None if it is no longer the one at `place`.

    Its hash says that it is what was checked then, so it is not checked again.
    """
    if _is_plain(raw, reader):
        try:
            row = _decoder(reader.stratify_by)(raw)
            text = msgspec.json.encode(row.messages)
        except _NOT_FAST:
            pass
        else:
            if sha256(b'{"messages":' + text + b"}\n").digest()[:16] != place:
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
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return b"\\u0000" not in block


@cache
def _decoder(stratify_by: str) -> Callable[[bytes], Any]:
    fields: list[tuple[str, Any, Any]] = [("weight", Literal[1] | None, None), ("tools", None, None)]
    rename, plain = {}, {"stratum": ""}
    if stratify_by not in ("", ANSWER):
        fields.append(("stratum", str, msgspec.UNSET))  # elsewhere, or not text: the slow way finds it
        rename, plain = {"stratum": stratify_by}, {}
    row = msgspec.defstruct("Row", [("messages", list[_Message]), *fields], rename=rename, namespace=plain, gc=False)
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
