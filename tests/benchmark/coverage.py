"""How often intervals hold the truth: `python -m tests.benchmark.coverage` prints the table of decision 13.

Two models answer n cases; the difference of their true means is known. A row's figures are shares of all repetitions in
which the truth lies below or above the 95 % interval (2.5 % is wanted on each side), and the interval's mean width.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gitune.benchmark.paired import Paired

Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]
Interval = tuple[float, float]
CASES_OF_A_SOURCE = 5


def right_or_wrong(both: float, gained: float, lost: float) -> tuple[Draw, float]:
    """Shares of the four outcomes; the rest is wrong for both."""

    def draw(dice: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        cell = dice.choice(4, size=n, p=[both, gained, lost, 1 - both - gained - lost])
        return (cell <= 1).astype(float), ((cell == 0) | (cell == 2)).astype(float)

    return draw, gained - lost


def graded(old: float, rise: float) -> tuple[Draw, float]:
    """Beta-distributed scores that share what is hard about a case, with many full marks."""

    def draw(dice: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        hard = dice.beta(2, 2, n)
        first = np.where(dice.random(n) < old, 1.0, hard * dice.random(n))
        second = np.where(dice.random(n) < old + rise, 1.0, hard * dice.random(n))
        return second, first

    return draw, rise * 0.75  # a full mark in place of a mean of 1/4


def sparse(changed: float) -> tuple[Draw, float]:
    """Equal scores, but for a few cases that all gain half a mark."""

    def draw(dice: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        first = dice.choice([0.0, 0.25, 0.5], n)
        return first + 0.5 * (dice.random(n) < changed), first

    return draw, changed / 2


def in_sources(gained: float, lost: float) -> tuple[Draw, float]:
    """As `right_or_wrong`, half of the cases as the first of their source."""

    def draw(dice: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        cell = dice.choice(4, size=n, p=[0.5, gained, lost, 0.5 - gained - lost])
        first = np.arange(n) // CASES_OF_A_SOURCE * CASES_OF_A_SOURCE
        cell = np.where(dice.random(n) < 0.5, cell[first], cell)
        return (cell <= 1).astype(float), ((cell == 0) | (cell == 2)).astype(float)

    return draw, gained - lost


def by_source(new: np.ndarray, old: np.ndarray) -> Interval:
    sources = tuple(i // CASES_OF_A_SOURCE for i in range(len(new)))
    return Paired(tuple(new.tolist()), tuple(old.tolist()), sources).interval()[1:]


def ours(new: np.ndarray, old: np.ndarray) -> Interval:
    return Paired(tuple(new.tolist()), tuple(old.tolist())).interval()[1:]


def student(new: np.ndarray, old: np.ndarray) -> Interval:
    from scipy import stats

    values = new - old
    margin = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return values.mean() - margin, values.mean() + margin


def bootstrap(method: str) -> Callable[[np.ndarray, np.ndarray], Interval]:
    def interval(new: np.ndarray, old: np.ndarray) -> Interval:
        from scipy import stats

        values = new - old
        if np.ptp(values) == 0:
            return values[0], values[0]
        found = stats.bootstrap((values,), np.mean, n_resamples=1999, method=method, rng=1).confidence_interval
        return found.low, found.high

    return interval


@dataclass(frozen=True)
class Row:
    below: float
    above: float
    width: float


def coverage(
    interval: Callable[[np.ndarray, np.ndarray], Interval], model: tuple[Draw, float], n: int, repetitions: int
) -> Row:
    draw, truth = model
    dice = np.random.default_rng(n)
    found = [interval(*draw(dice, n)) for _ in range(repetitions)]
    return Row(
        statistics.fmean(truth < low - 1e-12 for low, _ in found),
        statistics.fmean(truth > high + 1e-12 for _, high in found),
        statistics.fmean(high - low for low, high in found),
    )


SOURCES = "right/wrong, 50 % → 58 %, five cases a source"
MODELS = {
    "right/wrong, 60 % → 68 %": right_or_wrong(0.5, 0.18, 0.10),
    "right/wrong, no rise, 2 % differ": right_or_wrong(0.9, 0.01, 0.01),
    "right/wrong, 0 % → 95 %": right_or_wrong(0.0, 0.95, 0.0),
    SOURCES: in_sources(0.18, 0.10),
    "graded, +7.5 points": graded(0.4, 0.1),
    "graded, 3 % gain half a mark": sparse(0.03),
}
METHODS = {"gitune": ours, "percentile": bootstrap("percentile"), "BCa": bootstrap("BCa"), "Student": student}


def main(repetitions: int) -> None:
    print("| scores | n | method | truth below | truth above | width |\n|---|---|---|---|---|---|")
    for name, model in MODELS.items():
        for n in (30, 150):
            for method, interval in (METHODS | ({"gitune, by source": by_source} if name == SOURCES else {})).items():
                row = coverage(interval, model, n, repetitions)
                print(f"| {name} | {n} | {method} | {row.below:.1%} | {row.above:.1%} | {row.width:.3f} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
