"""The laws of sampling: exact shares, no example twice, stability, and independence of any order."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitune.dataset.sampling import allocate, arc_of, exact, largest_remainder, ring_order, ring_point

NAMES = st.text("abcdefgh", min_size=1, max_size=3)
WEIGHTS = st.dictionaries(NAMES, st.integers(0, 1_000), min_size=1, max_size=12)
PLACES = st.lists(st.binary(min_size=16, max_size=16), unique=True, max_size=80).map(sorted)


@given(st.integers(0, 10_000), WEIGHTS, st.integers(0, 5))
def test_shares_sum_exactly_and_are_off_by_less_than_one(total: int, weights: dict[str, int], seed: int) -> None:
    counts = largest_remainder(total, weights, seed)
    whole = sum(weights.values())
    assert sum(counts.values()) == (total if whole else 0)
    for name, weight in weights.items():
        assert not whole or abs(counts[name] - Fraction(total * weight, whole)) < 1


@given(st.integers(0, 10_000), WEIGHTS, st.randoms(use_true_random=False))
def test_the_order_of_names_does_not_matter(total: int, weights: dict[str, int], order: random.Random) -> None:
    names = list(weights)
    order.shuffle(names)
    assert largest_remainder(total, {name: weights[name] for name in names}) == largest_remainder(total, weights)


@given(st.integers(0, 3_000), WEIGHTS, st.data())
def test_what_one_lacks_the_others_give(total: int, weights: dict[str, int], data: st.DataObject) -> None:
    available = {name: data.draw(st.integers(0, 300), label=name) for name in weights}
    counts = allocate(total, weights, available)
    assert all(count <= available[name] for name, count in counts.items())
    assert all(weights[name] or not count for name, count in counts.items())
    assert sum(counts.values()) == min(total, sum(available[name] for name, weight in weights.items() if weight))


def test_shares_are_as_they_were_written() -> None:
    shares = exact({"a": 0.6, "b": 0.1, "c": 0.1, "d": 0.1, "e": 0.1})
    assert sum(shares.values()) == 1
    assert largest_remainder(5_000, shares) == {"a": 3_000, "b": 500, "c": 500, "d": 500, "e": 500}


@pytest.mark.parametrize(("total", "weights"), [(-1, {"a": 1}), (1, {"a": -1, "b": 3}), (1, {"a": -1})])
def test_negative_sizes_are_refused(total: int, weights: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        largest_remainder(total, weights)


def _walk(places: list[bytes], start: bytes) -> list[bytes]:
    return list(ring_order(lambda arc: [place for place in places if arc_of(place) == arc], start))


@given(PLACES, st.integers(0, 100))
def test_the_ring_is_walked_once(places: list[bytes], seed: int) -> None:
    start = ring_point(seed)
    walked = _walk(places, start)
    assert sorted(walked) == places
    assert walked == sorted(places, key=lambda place: (place < start, place))


@given(PLACES, st.binary(min_size=16, max_size=16), st.integers(0, 20))
def test_one_more_place_moves_at_most_one_other(places: list[bytes], added: bytes, size: int) -> None:
    start = ring_point(0)
    more = sorted({*places, added})
    before, after = set(_walk(places, start)[:size]), set(_walk(more, start)[:size])
    assert len(after - before) <= 1
    assert after - before <= {added}
