"""The verdict follows from the scores, holds up statistically, and says why."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitune.benchmark.gate import judge
from gitune.benchmark.statistics import wilson
from gitune.benchmark.scores import Score, Scores
from gitune.spec import GateSpec

GATE = GateSpec()


def scores(model: str, right: list[bool], latencies: tuple[float, ...] = (0.3,)) -> Scores:
    return Scores(model, tuple(Score(f"c{i}", "", float(ok)) for i, ok in enumerate(right)), latencies)


def paired(both: int, gained: int, lost: int, neither: int) -> tuple[Scores, Scores]:
    pairs = [(1, 1)] * both + [(1, 0)] * gained + [(0, 1)] * lost + [(0, 0)] * neither
    return scores("new", [bool(new) for new, _ in pairs]), scores("old", [bool(old) for _, old in pairs])


@pytest.mark.parametrize(
    ("table", "expected"),
    [  # Newcombe 1998 (paired), table II, method 10: counts a b c d, and the limits
        ((36, 12, 2, 0), (0.0569, 0.3404)),
        ((54, 0, 0, 0), (-0.0664, 0.0664)),  # all agree: Wilson's lower limit of 54/54, both ways
    ],
)
def test_the_interval_is_newcombes(table: tuple[int, int, int, int], expected: tuple[float, float]) -> None:
    new, old = paired(*table)
    difference, low, high = paired_difference(new, old)
    assert difference == pytest.approx((table[1] - table[2]) / sum(table))
    assert (low, high) == pytest.approx(expected, abs=6e-4)


def test_wilson_is_wilsons() -> None:
    # Newcombe 1998 (single proportion), table I, method 3: 81/263 and 0/20
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


@given(*[st.integers(0, 40)] * 4)
def test_the_interval_holds_the_difference_and_mirrors(both: int, gained: int, lost: int, neither: int) -> None:
    if both + gained + lost + neither == 0:
        return
    new, old = paired(both, gained, lost, neither)
    difference, low, high = paired_difference(new, old)
    assert -1 - 1e-9 <= low <= difference + 1e-9
    assert difference - 1e-9 <= high <= 1 + 1e-9
    back = paired_difference(old, new)
    assert back == pytest.approx((-difference, -high, -low), abs=1e-9)


def test_a_clear_rise_passes() -> None:
    verdict = judge(GATE, scores("new", [True] * 140 + [False] * 10), scores("base", [False] * 150))
    assert verdict.outcome == "pass"
    assert "accuracy 0.0% → 93.3%: +93.3 points over the base model" in verdict.reasons[0]
    assert "150 cases" in verdict.reasons[0]


def test_no_rise_fails() -> None:
    same = [True, False] * 75
    assert judge(GATE, scores("new", same), scores("base", same)).outcome == "fail"


def test_ten_cases_prove_nothing() -> None:
    new, base = scores("new", [True] * 6 + [False] * 4), scores("base", [True] * 5 + [False] * 5)
    verdict = judge(GATE, new, base)
    assert verdict.outcome == "inconclusive"
    assert "too few cases" in verdict.reasons[0]


def test_a_slow_model_fails() -> None:
    new = scores("new", [True] * 150, latencies=(1.0, 2.5, 2.6))
    verdict = judge(GATE, new, scores("base", [False] * 150))
    assert verdict.outcome == "fail"
    assert "median latency 2.50 s" in verdict.reasons[-1]


def test_worse_than_the_deployed_model_fails() -> None:
    base, deployed = scores("base", [False] * 150), scores("old", [True] * 150)
    new = scores("new", [True] * 140 + [False] * 10)
    assert judge(GATE, new, base, deployed).outcome == "fail"
    assert judge(GATE, deployed, base, deployed).outcome == "pass"


def test_a_model_that_is_no_better_rarely_passes() -> None:
    dice = random.Random(1)
    passed = 0
    for _ in range(400):
        base = [dice.random() < 0.6 for _ in range(150)]
        new = [dice.random() < 0.6 for _ in range(150)]
        passed += judge(GATE, scores("new", new), scores("base", base)).outcome == "pass"
    assert passed / 400 < 0.025  # the threshold is 8 points, so this is less than the 2.5 % of the interval's low side


def test_scores_of_no_answer_are_not_a_number() -> None:
    assert math.isnan(Scores("m", (), ()).latency)
