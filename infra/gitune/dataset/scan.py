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
from typing import Any, Literal

import msgspec

from gitune.dataset.chat import MAX_LINE_BYTES, MAX_PROBLEMS, Example, is_clean, parse_line
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

    content: str
    role: Literal["system", "user", "assistant"]
    tool_call_id: None = None
    tool_calls: None = None
    weight: None = None


def scan_block(block: bytes, offset: int, line: int, file: int, shown: str, reader: Reader) -> Part:
    """The part of whole lines that begins `offset` bytes into the file, on line `line`; at most MAX_PROBLEMS of it."""
    part = Part()
    fast = _decoder(reader.stratify_by) if _is_plain(block, reader) else None
    encode = msgspec.json.Encoder().encode
    pack, buckets, strata = RECORD.pack, part.buckets, _Strata(part.strata)
    answers = reader.stratify_by == ANSWER
    position, number = offset, line - 1
    for raw in block.split(b"\n"):
        start, position, number = position, position + len(raw) + 1, number + 1
        if fast is not None and len(raw) <= MAX_LINE_BYTES:
            try:
                row = fast(raw)
                messages = row.messages
                text = encode(messages)
                stratum = strata[messages[-1].content if answers else row.stratum]
                good = _ORDERS[tuple([message.role for message in messages])]
            except _NOT_FAST:
                good = False
            else:
                for message in messages:
                    if not message.content or message.content.isspace():
                        good = False
                if good and b"\\u0000" not in text:
                    digest = sha256(b'{"messages":%b}\n' % text).digest()
                    buckets[digest[0] >> 2] += pack(digest[:16], stratum, file, start, number)
                    part.count += 1
                    continue
        if raw and not raw.isspace():
            _scan_slowly(raw, start, number, file, shown, reader, part)
            if len(part.problems) > MAX_PROBLEMS:
                break
    return part


_NOT_FAST = (msgspec.DecodeError, KeyError, IndexError, UnicodeEncodeError, TypeError)


def _scan_slowly(raw: bytes, start: int, line: int, file: int, shown: str, reader: Reader, part: Part) -> None:
    value = parse_line(raw, shown, line, part.problems)
    example = reader.read(value, shown, line, part.problems) if value is not None else None
    if example is not None:
        part.add(example, file, start)


def _is_plain(block: bytes, reader: Reader) -> bool:
    """msgspec does not look into what it skips, so the whole block must be UTF-8."""
    if reader.format != "messages" or reader.columns or reader.stratify_by in ("messages", "weight", "tools"):
        return False
    if any(char in '\\"' or char < " " for char in reader.stratify_by):  # msgspec takes no such name
        return False
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


@cache
def _decoder(stratify_by: str) -> Callable[[bytes], Any]:
    fields: list[tuple[str, Any, Any]] = [("weight", Literal[1] | None, None), ("tools", None, None)]
    rename, plain = {}, {"stratum": ""}
    if stratify_by not in ("", ANSWER):
        fields.append(("stratum", str, msgspec.UNSET))  # elsewhere, or not text: the slow way finds it
        rename, plain = {"stratum": stratify_by}, {}
    row = msgspec.defstruct("Row", [("messages", list[_Message]), *fields], rename=rename, namespace=plain, gc=False)
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(row).decode
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


class _Orders(dict[tuple[str, ...], bool]):
    """Whether these roles may follow each other: user and assistant in turns, a system message before them."""

    def __missing__(self, roles: tuple[str, ...]) -> bool:
        turns = roles[1:] if roles[:1] == ("system",) else roles
        good = bool(turns) and turns == ("user", "assistant") * (len(turns) // 2)
        if len(self) < 1_000:
            self[roles] = good
        return good


_ORDERS = _Orders()
