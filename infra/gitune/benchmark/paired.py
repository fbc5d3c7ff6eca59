"""Two models on the same cases: how far apart they are, and how sure that is. Pure and repeatable.

Which interval, and why: docs/decisions/0013-evidence.md.
"""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

from gitune.benchmark.statistics import (
    LEVEL,
    Interval,
    detectable_difference,
    detectable_gain,
    normal_cdf,
    normal_quantile,
    percentile,
    standard_error,
    t_quantile,
    tail_of,
    wilson,
    wilson_limits,
)

RESAMPLES = 9_999
_SEED = 20_251_031
_LEAST_TAIL = 50 / (RESAMPLES + 1)
"""Fewer resamples than 50 beyond a limit place it badly."""
_LEAST_P = 1e-9


@dataclass(frozen=True)
class Paired:
    """Values between 0 and 1 of the new and the old model, case by case; cases of one source are not independent.

    Every contrast here is mean(new) - times * mean(old): `times` is 1 for a difference, 1.08 for "8 % more than".
    """

    new: tuple[float, ...]
    old: tuple[float, ...]
    sources: tuple[Hashable, ...] | None = None

    def __post_init__(self) -> None:
        if not len(self.new) == len(self.old) == len(self.sources or self.new) or not self.new:
            raise ValueError("the values of both models, and the sources, must be equally many")
        if not all(0 <= value <= 1 for value in {*self.new, *self.old}):
            raise ValueError("values must be between 0 and 1")

    @property
    def units(self) -> int:
        """How many independent sources there are: the cases, unless some share one."""
        return len(set(self.sources)) if self.sources else len(self.new)

    @cached_property
    def is_right_or_wrong(self) -> bool:
        """Whether every value is 0 or 1."""
        return {*self.new, *self.old} <= {0, 1}

    @cached_property
    def gained(self) -> int:
        """Cases on which the new model scores higher."""
        return sum(new > old for new, old in zip(self.new, self.old, strict=True))

    @cached_property
    def lost(self) -> int:
        """Cases on which the old model scores higher."""
        return sum(new < old for new, old in zip(self.new, self.old, strict=True))

    def interval(self, level: float = LEVEL, times: float = 1.0) -> Interval:
        """Of the contrast: Newcombe's for right and wrong, else the bootstrap's."""
        return self._interval(tail_of(level), times)

    def p_value(self, threshold: float, times: float = 1.0) -> float:
        """One-sided, that the contrast is no more than `threshold`: the tail at which the interval's low end meets it.

        1 when the contrast itself is no more.
        """
        if self._contrast(times) <= threshold:
            return 1.0
        low, high = math.log(_LEAST_P), math.log(0.5)
        for _ in range(40):
            middle = (low + high) / 2
            above = self._interval(math.exp(middle), times).low >= threshold
            low, high = (low, middle) if above else (middle, high)
        return math.exp(high)

    def relative_interval(self, level: float = LEVEL) -> Interval:
        """Of mean(new) / mean(old) - 1: all shares `s` whose contrast with `times` = 1 + s may be 0 (Fieller 1954).

        Infinite where the old mean, or what it may be, is 0.
        """
        new, old = statistics.fmean(self.new), statistics.fmean(self.old)
        estimate = new / old - 1 if old else math.inf
        return Interval(estimate, self._root(level, "low"), self._root(level, "high"))

    def detectable(self, level: float = LEVEL) -> float:
        """The least true difference that a set like this finds in 80 % of runs.

        From the discordance for right and wrong, drawn towards a half as Wilson's midpoint is, so that it is never 0.
        """
        if not self.is_right_or_wrong:
            return min(detectable_difference(self._error(1.0), level), 1.0)
        n = len(self.new) / self._design_effect(1.0)
        low, high = wilson((self.gained + self.lost) / self._design_effect(1.0), n, level)
        return detectable_gain(n, (low + high) / 2, level)

    def _interval(self, tail: float, times: float) -> Interval:
        if self.is_right_or_wrong:
            return self._newcombe(tail, times)
        values = self._values(times)
        if max(values) - min(values) < 1e-12:
            return self._all_equal(tail, times)
        return self._bootstrap_interval(tail, times)

    def _contrast(self, times: float) -> float:
        return statistics.fmean(self.new) - times * statistics.fmean(self.old)

    def _values(self, times: float) -> list[float]:
        return [new - times * old for new, old in zip(self.new, self.old, strict=True)]

    def _error(self, times: float) -> float:
        return standard_error(self._values(times), self.sources)

    def _root(self, level: float, side: str) -> float:
        """1 + s where that side of the contrast's interval is 0, less 1."""
        low, high = 0.0, 1e6
        if getattr(self.interval(level, high), side) > 0:
            return math.inf
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if getattr(self.interval(level, middle), side) > 0 else (low, middle)
        return high - 1

    def _newcombe(self, tail: float, times: float) -> Interval:
        """Wilson's limits of both shares, combined with their correlation.

        Newcombe, "Improved confidence intervals for the difference between binomial proportions based on paired data",
        Statistics in Medicine 17 (1998), method 10; with a factor before the second share as in Zou and Donner's
        method of variance estimates recovery (Statistics in Medicine 27, 2008). It keeps its width when all agree.

        Cases that share sources count as fewer: all counts are divided by the design effect (Rao and Scott, "A simple
        method for the analysis of clustered binary data", Biometrics 48, 1992), and t takes the place of z.
        """
        effect = self._design_effect(times)
        n = len(self.new) / effect
        both, gained, lost, neither = (count / effect for count in self._cells)
        p_new, p_old = (both + gained) / n, (both + lost) / n
        z = normal_quantile(tail) if self.sources is None else t_quantile(tail, max(self.units - 1, 1))
        low_new, high_new = wilson_limits(both + gained, n, z)
        low_old, high_old = wilson_limits(both + lost, n, z)
        phi = _correlation(both, gained, lost, neither)
        estimate = p_new - times * p_old
        below, above = p_new - low_new, high_new - p_new
        old_above, old_below = times * (high_old - p_old), times * (p_old - low_old)
        down = below**2 - 2 * phi * below * old_above + old_above**2
        up = above**2 - 2 * phi * above * old_below + old_below**2
        return Interval(estimate, estimate - math.sqrt(max(down, 0.0)), estimate + math.sqrt(max(up, 0.0)))

    def _design_effect(self, times: float) -> float:
        """How many times the variance is larger because cases share sources; at least 1.

        Where nothing varies, as if all cases of a source were one.
        """
        if self.sources is None:
            return 1.0
        alone = standard_error(self._values(times))
        if self.units < 2 or not alone > 0:
            return len(self.new) / self.units
        return max((self._error(times) / alone) ** 2, 1.0)

    def _all_equal(self, tail: float, times: float) -> Interval:
        """Nothing varies, so resampling would claim certainty: the share of cases that may differ, at their worst."""
        value = self._values(times)[0]
        share = 1 - tail ** (1 / self.units)
        return Interval(value, value - share * (value + times), value + share * (1 - value))

    def _bootstrap_interval(self, tail: float, times: float) -> Interval:
        """Bias-corrected and accelerated, over whole sources.

        Efron, "Better bootstrap confidence intervals", J. Am. Stat. Assoc. 82 (1987). Beyond the least tail the limits
        move on as those of a normal distribution do.
        """
        estimate = self._contrast(times)
        means = sorted(new - times * old for new, old in self._resampled)
        used = max(tail, _LEAST_TAIL)
        bias, acceleration = _bias(means, estimate), self._acceleration(times)
        low, high = (_limit(means, sign * normal_quantile(used), bias, acceleration) for sign in (-1, 1))
        stretch = 1.0 if used == tail else normal_quantile(tail) / normal_quantile(used)
        return Interval(estimate, estimate - (estimate - low) * stretch, estimate + (high - estimate) * stretch)

    @cached_property
    def _cells(self) -> tuple[int, int, int, int]:
        """Cases that are right for both, for the new model only, for the old one only, for neither."""
        counts = Counter(zip(self.new, self.old, strict=True))
        return counts[1, 1], counts[1, 0], counts[0, 1], counts[0, 0]

    @cached_property
    def _sums(self) -> tuple[tuple[float, float, int], ...]:
        """Of each source: the new values, the old ones, their count."""
        sums: dict[Hashable, tuple[float, float, int]] = {}
        for source, new, old in zip(self.sources or range(len(self.new)), self.new, self.old, strict=True):
            before = sums.get(source, (0.0, 0.0, 0))
            sums[source] = (before[0] + new, before[1] + old, before[2] + 1)
        return tuple(sums.values())

    @cached_property
    def _resampled(self) -> tuple[tuple[float, float], ...]:
        """Both means of each resample."""
        dice = random.Random(_SEED)
        drawn = []
        for _ in range(RESAMPLES):
            new, old, count = map(math.fsum, zip(*dice.choices(self._sums, k=len(self._sums)), strict=True))
            drawn.append((new / count, old / count))
        return tuple(drawn)

    def _acceleration(self, times: float) -> float:
        """From the jackknife over sources."""
        new, old, count = (sum(column) for column in zip(*self._sums, strict=True))
        left_out = [((new - a) - times * (old - b)) / (count - c) for a, b, c in self._sums if count > c]
        mean = statistics.fmean(left_out)
        squares = math.fsum((mean - value) ** 2 for value in left_out)
        return math.fsum((mean - value) ** 3 for value in left_out) / (6 * squares**1.5) if squares else 0.0


def _correlation(both: float, gained: float, lost: float, neither: float) -> float:
    """Newcombe's phi, with the continuity correction of method 10."""
    product = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    if product <= 0:
        return 0.0
    n = both + gained + lost + neither
    excess = both * neither - gained * lost
    if excess > 0:
        excess = max(excess - n / 2, 0.0)
    return excess / math.sqrt(product)


def _bias(means: Sequence[float], estimate: float) -> float:
    below = sum(mean < estimate - 1e-12 for mean in means)
    equal = sum(abs(mean - estimate) <= 1e-12 for mean in means)
    share = (below + equal / 2) / len(means)
    return -normal_quantile(min(max(share, 1 / len(means)), 1 - 1 / len(means)))


def _limit(means: Sequence[float], z: float, bias: float, acceleration: float) -> float:
    moved = bias + (bias + z) / max(1 - acceleration * (bias + z), 1e-6)
    return percentile(means, 100 * normal_cdf(moved))
