"""Which examples of which agents make a dataset: shares of other agents' sources, strata, and no example twice.

A mix takes of another agent's own sources, never of its mix. So two agents may mix each other, and no cycle can arise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from gitune.dataset.index import Index
from gitune.dataset.ring import Record, Ring
from gitune.dataset.sampling import allocate, exact, largest_remainder, ring_point


@dataclass(frozen=True, slots=True)
class Share:
    """What one agent's sources gave, in examples."""

    agent: str
    wanted: int
    taken: int
    available: int
    strata: Mapping[str, int]
    """Examples by stratum; empty without strata."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What agent.yaml says about the choice."""

    agent: str
    examples: int | None = None
    """How many; None: all, or with a mix the most that keeps its shares."""
    mix: Mapping[str, float] | None = None
    seed: int = 0

    @property
    def shares(self) -> dict[str, Fraction]:
        return exact(self.mix or {self.agent: 1.0})

    @property
    def takes_all(self) -> bool:
        return self.examples is None and not self.mix


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen examples and how the shares came out."""

    records: tuple[Record, ...]
    shares: tuple[Share, ...]

    @property
    def shortfalls(self) -> tuple[str, ...]:
        """What could not be had, in the user's words."""
        said = []
        for share in self.shares:
            if share.taken < share.wanted:
                what = f"{share.wanted} of agent '{share.agent}' wanted, {share.taken} there"
                said.append(f"{what}: the others fill in" if self._filled else what)
        return tuple(said)

    @property
    def _filled(self) -> bool:
        return any(share.taken > share.wanted for share in self.shares)


def choose(index: Index, wish: Wish, without: Collection[Record] = ()) -> Choice:
    """The examples that make the dataset, none of those `without`. Depends on content alone."""
    shares = wish.shares
    agents = sorted(shares, key=lambda agent: (agent != wish.agent, agent))
    barred = _barred(index, agents, without)
    sizes = {agent: _sizes(index, agent, barred[agent]) for agent in agents}
    available = {agent: sum(size.values()) for agent, size in sizes.items()}
    total = wish.examples if wish.examples is not None else _most(shares, available, takes_all=wish.takes_all)
    wanted = largest_remainder(total, shares, wish.seed)
    taken = allocate(total, shares, available, wish.seed)
    records: list[Record] = []
    told: list[Share] = []
    for agent in agents:
        whole = {index.names[short]: len(ring) for short, ring in index.rings.of(agent).items()}
        strata = allocate(taken[agent], whole, sizes[agent], wish.seed)
        start = ring_point(wish.seed)
        for short, ring in index.rings.of(agent).items():
            records += _take(ring, strata[index.names[short]], start, barred[agent])
        counts = {name: count for name, count in sorted(strata.items()) if count and name}
        told.append(Share(agent, wanted[agent], taken[agent], available[agent], counts))
    return Choice(tuple(records), tuple(told))


def _most(shares: Mapping[str, Fraction], available: Mapping[str, int], *, takes_all: bool) -> int:
    """The most examples that keep the shares."""
    if takes_all:
        return sum(available.values())
    return min(int(available[agent] / share) for agent, share in shares.items() if share)


def _barred(index: Index, agents: list[str], without: Collection[Record]) -> dict[str, dict[bytes, bytes]]:
    """By agent the places, with strata, that it may not give: left out, or also in the sources of an agent before."""
    barred: dict[str, dict[bytes, bytes]] = {agent: {} for agent in agents}
    for place, holders in index.rings.shared.items():
        for agent in [agent for agent in agents if agent in holders][1:]:
            barred[agent][place] = holders[agent]
    for record in without:
        owner = {index.inputs[record.file].reader.source: record.stratum}
        for agent, stratum in index.rings.shared.get(record.place, owner).items():
            if agent in barred:
                barred[agent][record.place] = stratum
    return barred


def _sizes(index: Index, agent: str, barred: Mapping[bytes, bytes]) -> dict[str, int]:
    """Examples that an agent can give, by stratum."""
    gone = Counter(barred.values())
    return {index.names[short]: len(ring) - gone[short] for short, ring in index.rings.of(agent).items()}


def _take(ring: Ring, count: int, start: bytes, barred: Collection[bytes]) -> Iterator[Record]:
    for record in ring.walk(start) if count else ():
        if record.place in barred:
            continue
        yield record
        count -= 1
        if not count:
            return
