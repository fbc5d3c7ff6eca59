"""What the gate lets through when the truth is known: 1,000 models each, with fixed seeds."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from gitune.benchmark.gate import Contest, judge, judge_together
from gitune.benchmark.scores import Score, Scores
from gitune.spec import GateSpec
from tests.benchmark import coverage

REPETITIONS = 1_000
STRICT, RISE, ANY = GateSpec(prove="threshold"), GateSpec(), GateSpec(min_improvement=0.0)


def draw(dice: np.random.Generator, n: int, gained: float, lost: float, per_source: int = 1) -> tuple[Scores, Scores]:
    """Challenger and base model; 50 % of the cases are right for both. Cases of one source come out alike."""
    cells = np.repeat(dice.choice(4, size=n // per_source, p=[0.5, gained, lost, 0.5 - gained - lost]), per_source)
    sources = [f"doc{i // per_source}" if per_source > 1 else None for i in range(n)]

    def scores(model: str, right: tuple[int, int]) -> Scores:
        values = zip(cells, sources, strict=True)
        return Scores(
            model, tuple(Score(f"c{i}", "", float(cell in right), s) for i, (cell, s) in enumerate(values)), (0.3,)
        )

    return scores("new", (0, 1)), scores("base", (0, 2))


def outcomes(gate: GateSpec, n: int, gained: float, lost: float, repetitions: int = REPETITIONS) -> Counter[str]:
    dice = np.random.default_rng(n)
    return Counter(judge(gate, *draw(dice, n, gained, lost)).outcome for _ in range(repetitions))


@pytest.mark.parametrize("gate", [STRICT, RISE, ANY], ids=["8 points proven", "a rise proven, 8 asked", "any rise"])
def test_the_same_model_twice_passes_in_under_a_twentieth(gate: GateSpec) -> None:
    assert outcomes(gate, 150, 0.12, 0.12)["pass"] < 0.05 * REPETITIONS


def test_the_same_model_twice_passes_in_under_a_twentieth_of_large_sets_too() -> None:
    assert outcomes(RISE, 400, 0.12, 0.12)["pass"] < 0.05 * REPETITIONS


@pytest.mark.parametrize("gate", [RISE, ANY], ids=["a rise proven, 8 asked", "any rise"])
def test_eight_points_more_pass_in_over_four_fifths_of_large_sets(gate: GateSpec) -> None:
    assert outcomes(gate, 400, 0.16, 0.08)["pass"] > 0.8 * REPETITIONS


def test_eight_points_are_proven_by_a_truth_that_lies_what_the_set_detects_above_them() -> None:
    assert outcomes(STRICT, 500, 0.16, 0.08, 200)["pass"] < 0.05 * 200  # exactly 8: as often above as below
    assert outcomes(STRICT, 500, 0.22, 0.07, 200)["pass"] > 0.8 * 200  # 15


@pytest.mark.parametrize("gate", [STRICT, RISE, ANY], ids=["8 points proven", "a rise proven, 8 asked", "any rise"])
@pytest.mark.parametrize(("gained", "lost"), [(0.12, 0.12), (0.16, 0.08), (0.5, 0.0)])
def test_ten_cases_never_prove_anything(gate: GateSpec, gained: float, lost: float) -> None:
    assert outcomes(gate, 10, gained, lost, 100) == {"inconclusive": 100}


def test_cases_of_one_source_do_not_pass_by_being_many() -> None:
    dice = np.random.default_rng(7)
    drawn = [draw(dice, 240, 0.12, 0.12, per_source=6) for _ in range(200)]
    passed = sum(judge(ANY, new, base).outcome == "pass" for new, base in drawn)
    alone = [Scores(each.model_id, tuple(Score(s.case_id, "", s.value) for s in each.scores), (0.3,))
             for pair in drawn for each in pair]  # fmt: skip
    naive = sum(judge(ANY, alone[i], alone[i + 1]).outcome == "pass" for i in range(0, len(alone), 2))
    assert passed < 0.05 * len(drawn) < 0.15 * len(drawn) < naive


def test_of_five_equal_agents_at_once_none_passes_in_nineteen_of_twenty_rounds() -> None:
    dice = np.random.default_rng(5)
    rounds = [[Contest(ANY, *draw(dice, 150, 0.12, 0.12)) for _ in range(5)] for _ in range(100)]
    together = sum(any(v.outcome == "pass" for v in judge_together(contests)) for contests in rounds)
    alone = sum(any(judge(c.gate, c.challenger, c.base).outcome == "pass" for c in contests) for contests in rounds)
    assert together < 0.05 * len(rounds) < alone


@pytest.mark.parametrize("model", ["right/wrong, 60 % → 68 %", "graded, +7.5 points"])
def test_the_interval_holds_the_truth_as_often_as_it_says(model: str) -> None:
    repetitions = 400 if model.startswith("right") else 10  # the table of decision 13 has 1,000
    row = coverage.coverage(coverage.ours, coverage.MODELS[model], 60, repetitions)
    assert row.below + row.above < 0.05 + 3 * (0.05 * 0.95 / repetitions) ** 0.5
