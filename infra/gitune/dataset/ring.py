"""The records of all examples on the ring, each example once an agent.

An arc is sorted when it is asked for: a sample touches a few of them. To see who stands twice needs no order.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import TypeAlias

from gitune.dataset.sampling import ARCS, RING_BYTES, ring_order
from gitune.dataset.scan import RECORD, Part

_PACKED = struct.Struct(f"{RECORD.size}s")
_PLACE = struct.Struct(f"{RING_BYTES}s{RECORD.size - RING_BYTES}x")
_FIRST_PLACE = bytes(RING_BYTES)
_Key: TypeAlias = tuple[str, bytes]
"""Agent and stratum."""


@dataclass(frozen=True, slots=True)
class Record:
    """Where one example stands. `file` is a number of `Index.inputs`."""

    place: bytes
    stratum: bytes
    file: int
    position: int
    line: int


@dataclass(slots=True)
class Rings:
    """The records of files; `agents` says whose file each number is. Complete once `close` was called."""

    agents: Sequence[str]
    shared: dict[bytes, dict[str, bytes]] = field(default_factory=dict)
    """Places of the examples that stand in the sources of more than one agent → agent → stratum there."""
    _repeats: list[tuple[bytes, bytes]] = field(default_factory=list)
    _sizes: Counter[_Key] = field(default_factory=Counter)
    _open: list[bytearray] = field(default_factory=lambda: [bytearray() for _ in range(ARCS)])
    """Records as they come. Not a list of pieces: freed, those would leave holes too small for an arc."""
    _arcs: list[bytes | Mapping[_Key, bytes]] = field(default_factory=list)
    """Records as they came, or sorted."""

    def add(self, part: Part, file: int) -> None:
        """Take the records of a part; it is empty afterwards."""
        for mine, records in zip(self._open, part.arcs, strict=True):
            mine.extend(records)
        part.arcs = []
        for stratum, size in part.sizes.items():
            self._sizes[self.agents[file], stratum] += size

    def close(self) -> None:
        """Leave out of every agent's examples those that stand there again."""
        for number, records in enumerate(self._open):
            self._open[number] = bytearray()
            self._arcs.append(self._without_repeats(bytes(records)))

    def repeats(self) -> Iterator[tuple[Record, Record]]:
        """Examples that stand again in the sources of the same agent, and the one that is kept."""
        for again, kept in self._repeats:
            yield _unpacked(again), _unpacked(kept)

    def of(self, agent: str) -> dict[bytes, Ring]:
        """The rings of an agent by stratum."""
        sizes = sorted(self._sizes.items())
        return {stratum: Ring(self, agent, stratum, size) for (of, stratum), size in sizes if of == agent and size}

    def arc(self, agent: str, stratum: bytes, number: int) -> Sequence[bytes]:
        """The packed records of one ring on one arc, sorted."""
        arc = self._arcs[number]
        if isinstance(arc, bytes):
            arc = self._arcs[number] = self._sorted(arc)
        return _split(arc.get((agent, stratum), b""))

    def _sorted(self, arc: bytes) -> Mapping[_Key, bytes]:
        slots: dict[bytes, list[bytes]] = {}  # by stratum and file, as they are packed: quicker than by key
        for record in sorted(_split(arc)):
            slots.setdefault(record[16:28], []).append(record)
        rings: dict[_Key, list[bytes]] = {}
        for packed, records in slots.items():
            rings.setdefault(self._key(packed), []).extend(records)
        return {key: b"".join(sorted(records)) for key, records in rings.items()}

    def _without_repeats(self, arc: bytes) -> bytes:
        places = [place for (place,) in _PLACE.iter_unpack(arc)]
        first: dict[bytes, int] = {}
        again = [number for number, place in enumerate(places) if first.setdefault(place, number) != number]
        if not again:
            return arc
        starts = [number * RECORD.size for number in {*again, *(first[places[number]] for number in again)}]
        found = {arc[start : start + RECORD.size]: start for start in starts}
        equals = (list(group) for _, group in groupby(sorted(found), _place_of))
        gone = sorted(found[record] for equal in equals for record in self._repeated(equal))
        begins, ends = [0, *(start + RECORD.size for start in gone)], [*gone, len(arc)]
        return b"".join([arc[begin:end] for begin, end in zip(begins, ends, strict=True)])

    def _repeated(self, equal: Sequence[bytes]) -> Iterator[bytes]:
        """Of equal examples, sorted: all but each agent's first."""
        first: dict[str, bytes] = {}
        for packed in equal:
            agent, _ = key = self._key(packed[RING_BYTES:])
            if agent in first:
                self._repeats.append((packed, first[agent]))
                self._sizes[key] -= 1
                yield packed
            else:
                first[agent] = packed
        if len(first) > 1:
            holders = {agent: self._key(packed[RING_BYTES:])[1] for agent, packed in first.items()}
            self.shared[_place_of(equal[0])] = holders

    def _key(self, packed: bytes) -> _Key:
        """Of what begins with stratum and file, as they are packed."""
        return self.agents[int.from_bytes(packed[8:12], "big")], packed[:8]


@dataclass(frozen=True, slots=True)
class Ring:
    """The examples of one stratum of one agent's sources."""

    rings: Rings
    agent: str
    stratum: bytes
    size: int

    def __len__(self) -> int:
        return self.size

    def walk(self, start: bytes = _FIRST_PLACE) -> Iterator[Record]:
        """All records from a place on, once around."""
        return map(_unpacked, ring_order(partial(self.rings.arc, self.agent, self.stratum), start))


def _place_of(packed: bytes) -> bytes:
    return packed[:RING_BYTES]


def _unpacked(packed: bytes) -> Record:
    return Record(*RECORD.unpack(packed))


def _split(records: bytes) -> Sequence[bytes]:
    return [record for (record,) in _PACKED.iter_unpack(records)]
