"""Scores of two models, matched case by case. What was not answered is neither right nor wrong: it may be either."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gitune.benchmark.paired import Paired
from gitune.benchmark.scores import Score, Scores


@dataclass(frozen=True, slots=True)
class Match:
    """Two models on the same cases."""

    answered: Paired
    """The cases that both models have a score of."""
    worst: Paired
    """All cases; what was not answered, wrong for the challenger and right for the other."""
    best: Paired
    """The other way round."""
    missing: int
    """Answers that are missing, of both models and all runs."""

    @property
    def missing_words(self) -> str:
        if not self.missing:
            return ""
        return f"; {self.missing} answer(s) could not be had, and count as whatever speaks against the outcome"


@dataclass(frozen=True, slots=True)
class Regression:
    """A case on which the baseline scores higher, with an answer of both: of several runs, where they differ most."""

    case_id: str
    value: float
    baseline_value: float
    answer: str
    baseline_answer: str


def match(challenger: Scores, other: Scores) -> Match | None:
    """Pair the scores of two models, a case's value the mean over its runs. None when no case has a score of both."""
    new, old = _by_case(challenger), _by_case(other)
    runs_new, runs_old = _runs(challenger), _runs(other)
    cases = sorted(new.keys() | old.keys() | {error.case_id for error in (*challenger.errors, *other.errors)})
    sources = {score.case_id: score.source for score in (*challenger.scores, *other.scores)}

    def paired(cases: Sequence[str], new_values: Iterable[float], old_values: Iterable[float]) -> Paired:
        shared = any(sources.get(case) is not None for case in cases)
        named = tuple(_source(case, sources.get(case)) for case in cases) if shared else None
        return Paired(tuple(new_values), tuple(old_values), named)

    def filled(for_new: float, for_old: float) -> Paired:
        return paired(
            cases,
            (_mean(new.get(case, ()), runs_new, for_new) for case in cases),
            (_mean(old.get(case, ()), runs_old, for_old) for case in cases),
        )

    both = [case for case in cases if case in new and case in old]
    if not both:
        return None
    answered = paired(both, (_mean(new[case]) for case in both), (_mean(old[case]) for case in both))
    asked = len(cases) * (runs_new + runs_old)
    missing = asked - len(challenger.scores) - len(other.scores)
    if not missing:
        return Match(answered, answered, answered, 0)
    return Match(answered, filled(0.0, 1.0), filled(1.0, 0.0), missing)


def regressions(challenger: Scores, baseline: Scores) -> tuple[Regression, ...]:
    """The cases that got worse, the worst first."""
    new, old = _by_case(challenger), _by_case(baseline)
    found = []
    for case in new.keys() & old.keys():
        value, before = _mean(new[case]), _mean(old[case])
        if value < before:
            worst, best = min(new[case], key=lambda s: s.value), max(old[case], key=lambda s: s.value)
            found.append(Regression(case, value, before, worst.answer, best.answer))
    return tuple(sorted(found, key=lambda each: (each.value - each.baseline_value, each.case_id)))


def _source(case: str, source: str | None) -> tuple[str, str]:
    return ("case", case) if source is None else ("source", source)


def _by_case(scores: Scores) -> Mapping[str, list[Score]]:
    found: dict[str, list[Score]] = {}
    for score in scores.scores:
        found.setdefault(score.case_id, []).append(score)
    return found


def _runs(scores: Scores) -> int:
    return len({score.epoch for score in scores.scores} | {error.epoch for error in scores.errors}) or 1


def _mean(scores: Sequence[Score], runs: int | None = None, fill: float = 0.0) -> float:
    """Of as many runs as are said; a run without a score counts as `fill`."""
    runs = len(scores) if runs is None else runs
    return (math.fsum([score.value for score in scores]) + fill * (runs - len(scores))) / runs
