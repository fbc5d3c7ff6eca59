"""Scores of two models, matched case by case. What was not answered is neither right nor wrong: it may be either."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from gitune.benchmark.paired import Paired
from gitune.benchmark.scores import Score, Scores


@dataclass(frozen=True, slots=True)
class Match:
    """Two models on the same cases."""

    answered: Paired | None
    """The cases that both models have a score of; None where there is none."""
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


def match(challenger: Scores, other: Scores) -> Match:
    """Pair the scores of two models. A case's value is the mean over its runs."""
    new, old = _by_case(challenger), _by_case(other)
    runs_new, runs_old = _runs(challenger), _runs(other)
    cases = sorted(new.keys() | old.keys() | {error.case_id for error in (*challenger.errors, *other.errors)})
    both = [case for case in cases if case in new and case in old]
    sources = {score.case_id: score.source for score in (*challenger.scores, *other.scores)}

    def paired(cases: list[str], a: list[float], b: list[float]) -> Paired:
        shared = any(sources.get(case) is not None for case in cases)
        named = tuple(_source(case, sources.get(case)) for case in cases) if shared else None
        return Paired(tuple(a), tuple(b), named)

    def filled(new_fill: float, old_fill: float) -> Paired:
        a = [_mean(new.get(case, []), runs_new, new_fill) for case in cases]
        return paired(cases, a, [_mean(old.get(case, []), runs_old, old_fill) for case in cases])

    missing = sum(
        runs - len(found.get(case, [])) for found, runs in ((new, runs_new), (old, runs_old)) for case in cases
    )
    answered = None
    if both:
        a = [_mean(new[case], len(new[case]), 0.0) for case in both]
        answered = paired(both, a, [_mean(old[case], len(old[case]), 0.0) for case in both])
    if answered is not None and not missing:
        return Match(answered, answered, answered, 0)
    return Match(answered, filled(0.0, 1.0), filled(1.0, 0.0), missing)


def regressions(challenger: Scores, baseline: Scores) -> tuple[Regression, ...]:
    """The cases that got worse, the worst first."""
    new, old = _by_case(challenger), _by_case(baseline)
    found = []
    for case in new.keys() & old.keys():
        value, before = (_mean(scores, len(scores), 0.0) for scores in (new[case], old[case]))
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
    return len({each.epoch for each in (*scores.scores, *scores.errors)}) or 1


def _mean(scores: list[Score], runs: int, fill: float) -> float:
    return (math.fsum(score.value for score in scores) + fill * (runs - len(scores))) / runs
