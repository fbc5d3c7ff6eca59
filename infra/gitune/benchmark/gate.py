"""The gate: thresholds and scores in, verdict with reasons out. Pure.

What is compared with what, and what proves it: docs/decisions/0002-two-baselines.md and 0013-evidence.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gitune.benchmark.match import Match, Regression, match, regressions
from gitune.benchmark.paired import Paired
from gitune.benchmark.scores import Scores, Unanswered
from gitune.benchmark.statistics import (
    LEVEL,
    POWER,
    Interval,
    answers_for_percentile,
    holm_levels,
    mcnemar,
    normal_quantile,
    percentile,
    tail_of,
    variation,
)
from gitune.spec import GateSpec

Outcome = Literal["pass", "fail", "inconclusive"]
_RUNS = 3
"""Two runs say next to nothing of how much runs differ."""
_MANY = 100_000
_NEVER = 1e9
"""Seconds of an answer that did not come."""


@dataclass(frozen=True, slots=True)
class Check:
    """One threshold: what was asked, what was measured."""

    name: str
    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The worst outcome of all checks, with every check's reason."""

    outcome: Outcome
    checks: tuple[Check, ...]
    regressions: tuple[Regression, ...] = ()
    """Cases on which the baseline, the deployed model or else the base model, scores higher."""
    level: float = LEVEL
    """Of the intervals: 0.95, or more when several agents were judged at once."""

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(check.reason for check in self.checks)


@dataclass(frozen=True, slots=True)
class Contest:
    """One agent at the gate. `deployed` is None where nothing is deployed."""

    gate: GateSpec
    challenger: Scores
    base: Scores | Unanswered
    deployed: Scores | Unanswered | None = None


def judge(
    gate: GateSpec,
    challenger: Scores,
    base: Scores | Unanswered,
    deployed: Scores | Unanswered | None = None,
    *,
    level: float = LEVEL,
) -> Verdict:
    """Compare the challenger with the base model, and with the deployed model where there is one."""
    if isinstance(deployed, Scores) and deployed.model_id == challenger.model_id:
        deployed = None
    checks = [_improvement(gate, challenger, base, level)]
    if deployed is not None:
        checks.append(_regression(gate, challenger, deployed, level))
    checks.append(_latency(gate, challenger))
    if gate.max_variation is not None:
        checks.append(_variation(gate.max_variation, challenger))
    baseline = deployed or base
    worse = () if isinstance(baseline, Unanswered) else regressions(challenger, baseline)
    order: Sequence[Outcome] = ("fail", "inconclusive", "pass")
    return Verdict(min((check.outcome for check in checks), key=order.index), tuple(checks), worse, level)


def judge_together(contests: Sequence[Contest]) -> tuple[Verdict, ...]:
    """Judge several agents at once, so that the chance that any of them passes by luck stays that of one.

    Holm's procedure over the p-values of "no more than min_improvement" sets the level of each agent's intervals; an
    agent whose base model gave no answer cannot pass, and is not counted.
    """
    p_values = {place: p for place, contest in enumerate(contests) if (p := _p_value(contest)) is not None}
    levels = dict(zip(p_values, holm_levels(tuple(p_values.values())), strict=True))
    return tuple(
        judge(each.gate, each.challenger, each.base, each.deployed, level=levels.get(place, LEVEL))
        for place, each in enumerate(contests)
    )


def _p_value(contest: Contest) -> float | None:
    """That the rise is no more than what must be proven. None where nothing can be compared."""
    found = None if isinstance(contest.base, Unanswered) else match(contest.challenger, contest.base)
    if found is None:
        return None
    times, threshold = (1.0, 0.0) if contest.gate.prove == "rise" else _asked(contest.gate)
    return found.worst.p_value(threshold, times)


def _asked(gate: GateSpec) -> tuple[float, float]:
    """(times, threshold): mean(challenger) - times * mean(base model) must be the threshold or more."""
    relative = gate.relative_improvement
    return (1.0, float(gate.min_improvement)) if relative is None else (1 + relative, 0.0)


def _improvement(gate: GateSpec, challenger: Scores, base: Scores | Unanswered, level: float) -> Check:
    name = "min_improvement"
    if isinstance(base, Unanswered):
        reason = f"accuracy {challenger.accuracy:.1%}; the base model could not be asked: {base.reason}"
        return Check(name, "inconclusive", reason)
    found = match(challenger, base)
    if found is None:
        return Check(name, "inconclusive", "no case has a score of both models")
    measured = _measured(gate, found.answered, level) + found.missing_words
    if gate.min_improvement == -1:
        return Check(name, "pass", f"{measured}; no rise is asked for")
    units = found.answered.units
    if units < gate.min_cases:
        return Check(name, "inconclusive", f"{measured}; {_too_few(found.answered, gate.min_cases)}")
    times, threshold = _asked(gate)
    goal = Interval(
        found.answered.interval(level, times).estimate,
        found.worst.interval(level, times).low,
        found.best.interval(level, times).high,
    )
    if goal.high < threshold:
        return Check(name, "fail", f"{measured}; {_wanted(gate, found.answered)} asked")
    if goal.low >= threshold:
        return Check(name, "pass", f"{measured}; at least {_wanted(gate, found.answered)} asked")
    if gate.prove == "rise":
        return _proven_rise(gate, found, measured, level)
    doubt = _doubt(goal, threshold, units, level)
    reason = f"{measured}; too few cases to tell whether it is {_wanted(gate, found.answered)} or more{doubt}"
    return Check(name, "inconclusive", reason)


def _proven_rise(gate: GateSpec, found: Match, measured: str, level: float) -> Check:
    """The asked rise is neither proven nor ruled out. Is there a rise, in a set that finds one as large as asked?"""
    wanted = _wanted(gate, found.answered)
    times, threshold = _asked(gate)
    least = threshold + (times - 1) * _mean(found.answered.old)
    detectable = found.answered.detectable(level)
    if detectable > least > 0:
        reason = f"{measured}; too few cases to find a rise of {wanted}"
        return Check("min_improvement", "inconclusive", reason)
    low = found.worst.interval(level).low
    if low > 0:
        return Check("min_improvement", "pass", f"{measured}; a rise is proven, and {wanted} is not ruled out")
    doubt = _doubt(found.answered.interval(level), 0.0, found.answered.units, level)
    return Check("min_improvement", "inconclusive", f"{measured}; too few cases to tell whether it is a rise{doubt}")


def _measured(gate: GateSpec, paired: Paired, level: float) -> str:
    new, old = _mean(paired.new), _mean(paired.old)
    difference = paired.interval(level)
    counted = f"{len(paired.new)} cases"
    if paired.sources is not None:
        counted += f" of {paired.units} sources"
    sure = f"{100 * level:.4g} % interval"
    found = f"{counted}: enough to find {paired.detectable(level) * 100:.1f} points in {100 * POWER:.0f} % of runs"
    points = (
        f"accuracy {old:.1%} → {new:.1%}: {difference.estimate * 100:+.1f} points over the base model "
        f"({sure} {difference.low * 100:+.1f} to {difference.high * 100:+.1f}, {found})"
    )
    if gate.relative_improvement is None:
        return points
    share = paired.relative_interval(level)
    if math.isinf(share.estimate):
        return f"{points}, which is no share of a base model that scores 0"
    high = "any share" if math.isinf(share.high) else f"{share.high * 100:+.1f} %"
    return f"{points}, {share.estimate * 100:+.1f} % of what it scores ({share.low * 100:+.1f} % to {high})"


def _wanted(gate: GateSpec, paired: Paired) -> str:
    relative = gate.relative_improvement
    if relative is None:
        return f"{float(gate.min_improvement) * 100:+.1f}"
    old = _mean(paired.old)
    return f"{relative * 100:+.4g} % of the base model's {old:.1%}, so {relative * old * 100:+.1f} points,"


def _too_few(paired: Paired, least: int) -> str:
    if paired.sources is None:
        return f"{len(paired.new)} cases prove nothing, at least {least} are needed (min_cases)"
    return (
        f"cases of one source count once: {paired.units} sources prove nothing, at least {least} are needed (min_cases)"
    )


def _doubt(goal: Interval, threshold: float, units: int, level: float) -> str:
    """How many cases would settle it, if the difference stays what it is: the interval shrinks with their root."""
    z = normal_quantile(tail_of(level))
    error = (goal.high - goal.low) / (2 * z)
    distance = abs(goal.estimate - threshold)
    needed = math.inf if distance == 0 else units * ((z + normal_quantile(1 - POWER)) * error / distance) ** 2
    if needed > _MANY:
        return ", it is so near"
    digits = max(len(str(math.ceil(needed))) - 2, 0)
    return f"; about {math.ceil(needed / 10**digits) * 10**digits} would"


def _regression(gate: GateSpec, challenger: Scores, deployed: Scores | Unanswered, level: float) -> Check:
    name = "max_regression"
    if isinstance(deployed, Unanswered):
        reason = f"the deployed model could not be asked: {deployed.reason}; what would be lost is unknown"
        return Check(name, "inconclusive", reason)
    found = match(challenger, deployed)
    if found is None:
        return Check(name, "inconclusive", "no case has a score of both models")
    paired = found.answered
    difference, low, high = paired.interval(level)
    chance = f", exact McNemar p = {mcnemar(paired.gained, paired.lost):.2g}" if _tests_apply(paired) else ""
    measured = (
        f"accuracy {_mean(paired.old):.1%} → {_mean(paired.new):.1%}: {difference * 100:+.1f} points against the "
        f"deployed model ({100 * level:.4g} % interval {low * 100:+.1f} to {high * 100:+.1f}, {paired.gained} cases "
        f"gained and {paired.lost} lost{chance}){found.missing_words}"
    )
    least, most = (_mean(each.new) - _mean(each.old) for each in (found.worst, found.best))
    allowed = f"at most {gate.max_regression * 100:.1f} may be lost"
    if least >= -gate.max_regression - 1e-12:
        return Check(name, "pass", f"{measured}; {allowed}")
    if most < -gate.max_regression:
        return Check(name, "fail", f"{measured}; {allowed}")
    return Check(name, "inconclusive", f"{measured}; {allowed}, and what was not answered decides")


def _tests_apply(paired: Paired) -> bool:
    return paired.is_right_or_wrong and paired.sources is None


def _latency(gate: GateSpec, challenger: Scores) -> Check:
    name, timed = "max_latency_seconds", len(challenger.latencies)
    if not timed:
        return Check(name, "inconclusive", f"no answer was timed; at most {gate.max_latency_seconds:g} s asked")
    seconds = percentile(challenger.latencies, gate.latency_percentile)
    label = "median latency" if gate.latency_percentile == 50 else f"p{gate.latency_percentile} of the latency"
    others = ", ".join(
        f"p{percent} {percentile(challenger.latencies, percent):.2f} s"
        for percent in (50, 95, 99)
        if percent != gate.latency_percentile and timed >= answers_for_percentile(percent)
    )
    measured = f"{label} {seconds:.2f} s ({timed} answers, one at a time{others and '; ' + others})"
    asked = f"at most {gate.max_latency_seconds:g} s asked"
    if seconds > gate.max_latency_seconds:
        return Check(name, "fail", f"{measured}; {asked}")
    lost = len(challenger.untimed)
    if percentile((*challenger.latencies, *[_NEVER] * lost), gate.latency_percentile) > gate.max_latency_seconds:
        return Check(name, "inconclusive", f"{measured}; {asked}, and {lost} answer(s) more never came")
    needed = answers_for_percentile(gate.latency_percentile)
    if timed < needed and gate.latency_percentile > 50:
        reason = (
            f"{measured}; {asked}, and a p{gate.latency_percentile} needs {needed} answers (benchmark.latency_cases)"
        )
        return Check(name, "inconclusive", reason)
    return Check(name, "pass", f"{measured}; {asked}")


def _variation(most: float, challenger: Scores) -> Check:
    name = "max_variation"
    runs: dict[str, dict[int, float]] = {}
    for score in challenger.scores:
        runs.setdefault(score.case_id, {})[score.epoch] = score.value
    count = max((len(values) for values in runs.values()), default=0)
    whole = {case: [values[run] for run in sorted(values)] for case, values in runs.items() if len(values) == count}
    asked = f"at most {most * 100:.1f} points asked"
    if count < _RUNS:
        return Check(name, "inconclusive", f"{count} run(s) say nothing of the variation, {_RUNS} do (--runs); {asked}")
    found = variation(whole)
    shown = ", ".join(f"{mean:.1%}" for mean in found.means)
    measured = (
        f"accuracy varies by {found.deviation * 100:.1f} points (standard deviation of {count} runs: {shown}), and "
        f"{found.changed:.1%} of the cases are not always scored the same"
    )
    return Check(name, "pass" if found.deviation <= most else "fail", f"{measured}; {asked}")


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
