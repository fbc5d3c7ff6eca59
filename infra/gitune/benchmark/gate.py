"""The gate: thresholds and scores in, verdict with reasons out. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gitune.benchmark.scores import Scores, Unanswered
from gitune.spec import GateSpec

Outcome = Literal["pass", "fail", "inconclusive"]
_Z = 1.959964  # two-sided 95 %


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

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(check.reason for check in self.checks)


def judge(
    gate: GateSpec, challenger: Scores, base: Scores | Unanswered, deployed: Scores | Unanswered | None = None
) -> Verdict:
    """Compare the challenger with the base model, and with the deployed model where there is one."""
    checks = [_improvement(gate, challenger, base)]
    if isinstance(deployed, Unanswered):
        reason = f"the deployed model could not be asked: {deployed.reason}; what would be lost is unknown"
        checks.append(Check("max_regression", "inconclusive", reason))
    elif deployed is not None and deployed.model_id != challenger.model_id:
        checks.append(_regression(gate, challenger, deployed))
    checks.append(_latency(gate, challenger))
    order: Sequence[Outcome] = ("fail", "inconclusive", "pass")
    return Verdict(min((check.outcome for check in checks), key=order.index), tuple(checks))


def paired_difference(challenger: Scores, baseline: Scores) -> tuple[float, float, float]:
    """(difference of the accuracies, low, high): 95 % score interval for paired shares.

    Newcombe, "Improved confidence intervals for the difference between binomial proportions based on paired data",
    Statistics in Medicine 17 (1998), method 10 (Wilson limits with a correlation correction). Unlike Wald's interval it
    keeps its width when all cases agree.
    """
    old = baseline.by_case()
    pairs = [(score.value > 0.5, old[score.case_id].value > 0.5) for score in challenger.scores]
    n = len(pairs)
    both = sum(new and was for new, was in pairs)
    gained = sum(new and not was for new, was in pairs)
    lost = sum(was and not new for new, was in pairs)
    neither = n - both - gained - lost
    p_new, p_old = (both + gained) / n, (both + lost) / n
    difference = p_new - p_old
    low_new, high_new = wilson(both + gained, n)
    low_old, high_old = wilson(both + lost, n)
    phi = _correlation(both, gained, lost, neither)
    below = (p_new - low_new) ** 2 - 2 * phi * (p_new - low_new) * (high_old - p_old) + (high_old - p_old) ** 2
    above = (high_new - p_new) ** 2 - 2 * phi * (high_new - p_new) * (p_old - low_old) + (p_old - low_old) ** 2
    return difference, difference - math.sqrt(max(below, 0.0)), difference + math.sqrt(max(above, 0.0))


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval for a share (J. Am. Stat. Assoc. 22, 1927)."""
    share = successes / n
    centre = share + _Z**2 / (2 * n)
    spread = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    scale = 1 + _Z**2 / n
    return max((centre - spread) / scale, 0.0), min((centre + spread) / scale, 1.0)


def _correlation(both: int, gained: int, lost: int, neither: int) -> float:
    """Newcombe's phi, with the continuity correction of method 10."""
    product = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    if product == 0:
        return 0.0
    n = both + gained + lost + neither
    excess = float(both * neither - gained * lost)
    if excess > 0:
        excess = max(excess - n / 2, 0.0)
    return excess / math.sqrt(product)


def _improvement(gate: GateSpec, challenger: Scores, base: Scores | Unanswered) -> Check:
    if isinstance(base, Unanswered):
        reason = f"accuracy {challenger.accuracy:.1%}; the base model could not be asked: {base.reason}"
        return Check("min_improvement", "inconclusive", reason)
    difference, low, high = paired_difference(challenger, base)
    measured = (
        f"accuracy {base.accuracy:.1%} → {challenger.accuracy:.1%}: {difference * 100:+.1f} points over the base model "
        f"(95 % interval {low * 100:+.1f} to {high * 100:+.1f}, {len(challenger.scores)} cases)"
    )
    wanted = f"{gate.min_improvement * 100:+.1f}"
    if low >= gate.min_improvement:
        return Check("min_improvement", "pass", f"{measured}; at least {wanted} asked")
    if high < gate.min_improvement:
        return Check("min_improvement", "fail", f"{measured}; {wanted} asked")
    return Check("min_improvement", "inconclusive", f"{measured}; too few cases to tell whether it is {wanted} or more")


def _regression(gate: GateSpec, challenger: Scores, deployed: Scores) -> Check:
    difference, low, high = paired_difference(challenger, deployed)
    measured = (
        f"accuracy {deployed.accuracy:.1%} → {challenger.accuracy:.1%}: {difference * 100:+.1f} points against the "
        f"deployed model (95 % interval {low * 100:+.1f} to {high * 100:+.1f})"
    )
    outcome: Outcome = "pass" if difference >= -gate.max_regression else "fail"
    return Check("max_regression", outcome, f"{measured}; at most {gate.max_regression * 100:.1f} may be lost")


def _latency(gate: GateSpec, challenger: Scores) -> Check:
    outcome: Outcome = "pass" if challenger.latency <= gate.max_latency_seconds else "fail"
    measured = f"median latency {challenger.latency:.2f} s ({len(challenger.latencies)} answers, one at a time)"
    return Check("max_latency_seconds", outcome, f"{measured}; at most {gate.max_latency_seconds:g} s asked")
