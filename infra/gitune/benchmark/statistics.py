"""Rates, tests and spreads of scores, from plain numbers. `paired` compares two models case by case.

Written without numpy, which is not in the base installation; checked against scipy and statsmodels in the tests.
Sources are named where a formula stands. A `level` is two-sided: 0.95 leaves 2.5 % on each side.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

LEVEL = 0.95
POWER = 0.8
_NORMAL = statistics.NormalDist()


class Interval(NamedTuple):
    """What was measured, and the bounds of what may be true."""

    estimate: float
    low: float
    high: float


def tail_of(level: float) -> float:
    """The probability on each side of a two-sided interval."""
    return (1 - level) / 2


@functools.lru_cache(maxsize=256)
def normal_quantile(tail: float) -> float:
    """How many standard deviations leave `tail` above them."""
    return -_NORMAL.inv_cdf(tail)


def normal_cdf(z: float) -> float:
    """The probability below `z` standard deviations."""
    return _NORMAL.cdf(z)


def t_quantile(tail: float, degrees: int) -> float:
    """Student's t that leaves `tail` above it: Abramowitz and Stegun 26.7.5, within 0.2 % from 5 degrees on."""
    z = normal_quantile(tail)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / float(degrees) ** power for power, term in enumerate(terms, start=1))


def wilson(successes: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval for a share (J. Am. Stat. Assoc. 22, 1927). Counts may be effective ones."""
    return wilson_limits(successes, n, normal_quantile(tail_of(level)))


def wilson_limits(successes: float, n: float, z: float) -> tuple[float, float]:
    """`wilson` at `z` standard deviations; the upper limit alone is a one-sided bound at `normal_cdf(z)`."""
    share = successes / n
    centre = share + z**2 / (2 * n)
    spread = z * math.sqrt(max(share * (1 - share), 0.0) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    low = 0.0 if successes <= 0 else max((centre - spread) / scale, 0.0)
    high = 1.0 if successes >= n else min((centre + spread) / scale, 1.0)
    return low, high


def upper_bound(count: int, n: int, level: float = LEVEL) -> float:
    """The share that `count` of `n` does not rule out, one-sided and exact (Clopper and Pearson, Biometrika 26, 1934).

    For 0 of n it is 1 - (1 - level)^(1/n), of which `rule_of_three` is the well-known short form. Wilson's upper limit
    is lower there (2.706 / (n + 2.706) at 95 %) and holds less often than it says, so safety is not judged by it.
    """
    if count >= n:
        return 1.0
    low, high = count / n, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _binomial_cdf(count, n, middle) > 1 - level else (low, middle)
    return high


def rule_of_three(n: int) -> float:
    """What 0 of n leaves possible at 95 %, in short: 3 / n (Hanley and Lippman-Hand, JAMA 249, 1983)."""
    return min(3 / n, 1.0)


def mcnemar(gained: int, lost: int, *, mid_p: bool = False) -> float:
    """Two-sided p-value of McNemar's exact conditional test that gains and losses are equally likely.

    `mid_p` is Fagerland, Lydersen and Laake's (BMC Med. Res. Methodol. 13:91, 2013): less conservative.
    """
    n, few = gained + lost, min(gained, lost)
    if gained == lost:
        return 1 - math.comb(n, few) / (1 << (n + 1)) if mid_p and n else 1.0
    tail = 2 * sum(math.comb(n, k) for k in range(few + 1)) - (math.comb(n, few) if mid_p else 0)
    return tail / (1 << n)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values in the same order: each at most `a` holds, whatever the others, at a family's level `a`.

    Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6 (1979).
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min((len(p_values) - rank) * p_values[place], 1.0))
        adjusted[place] = highest
    return tuple(adjusted)


def holm_levels(p_values: Sequence[float], level: float = LEVEL) -> tuple[float, ...]:
    """The level at which Holm's procedure judges each of several one-sided tests made at once.

    A test passes at its level exactly when `holm` gives it an adjusted p-value of at most half of 1 - level. The test
    where the procedure stops, and all after it, share the level of that step.
    """
    levels = [level] * len(p_values)
    stopped = False
    tail = tail_of(level)
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if not stopped:
            tail = tail_of(level) / (len(p_values) - rank)
        stopped = stopped or p_values[place] > tail
        levels[place] = 1 - 2 * tail
    return tuple(levels)


def standard_error(values: Sequence[float], sources: Sequence[Hashable] | None = None) -> float:
    """Of the mean. Values that share a source may go together: only sources count as independent.

    Miller, "Adding error bars to evals" (arXiv 2411.00640, 2024), section 2.2, with the factor G / (G - 1) for G
    sources that makes it the usual formula when every value is its own source. NaN for a single source.
    """
    mean = statistics.fmean(values)
    sums: dict[Hashable, float] = {}
    for source, value in zip(sources or range(len(values)), values, strict=True):
        sums[source] = sums.get(source, 0.0) + value - mean
    groups = len(sums)
    if groups < 2:
        return math.nan
    return math.sqrt(math.fsum(total**2 for total in sums.values()) * groups / (groups - 1)) / len(values)


def detectable_difference(error: float, level: float = LEVEL, power: float = POWER) -> float:
    """The least true difference that an interval at `level` tells from none in a share `power` of all runs.

    `error` is the standard error of the paired difference. Miller (2024), section 5.
    """
    return (normal_quantile(tail_of(level)) + normal_quantile(1 - power)) * error


def detectable_gain(n: float, discordance: float, level: float = LEVEL, power: float = POWER) -> float:
    """`detectable_difference` of right/wrong scores, of which a share `discordance` differs between two models.

    Connor, "Sample size for testing differences in proportions for the paired-sample design", Biometrics 43 (1987). A
    difference larger than the discordance raises the discordance to itself. 1 when no difference can be told.
    """
    z_level, z_power = normal_quantile(tail_of(level)), normal_quantile(1 - power)

    def needed(gain: float) -> float:
        differing = max(discordance, gain)
        spread = z_level * math.sqrt(differing) + z_power * math.sqrt(max(differing - gain**2, 0.0))
        return (spread / gain) ** 2

    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if needed(middle) <= n else (middle, high)
    return high


@dataclass(frozen=True, slots=True)
class Variation:
    """How much a model's scores change when it is asked everything again."""

    means: tuple[float, ...]
    """The mean score of each run."""
    deviation: float
    """Standard deviation of the runs' means (n - 1 in the denominator). NaN for one run."""
    changed: float
    """Share of the cases whose score is not the same in every run."""


def variation(runs: Mapping[str, Sequence[float]]) -> Variation:
    """Of the scores that each case got, run by run. Raises ValueError unless every case has as many."""
    means = tuple(statistics.fmean(values) for values in zip(*runs.values(), strict=True))
    deviation = statistics.stdev(means) if len(means) > 1 else math.nan
    return Variation(means, deviation, statistics.fmean(len(set(values)) > 1 for values in runs.values()))


def percentile(values: Iterable[float], percent: float) -> float:
    """Linear between the two values around rank 1 + (n - 1) percent / 100; the median at 50. NaN for no values.

    Hyndman and Fan's definition 7 ("Sample quantiles in statistical packages", Am. Stat. 50, 1996), numpy's default.
    """
    ordered = sorted(values)
    if not ordered:
        return math.nan
    place = (len(ordered) - 1) * percent / 100
    below = min(int(place), len(ordered) - 1)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def answers_for_percentile(percent: float) -> int:
    """The fewest values of which one at least is expected beyond the percentile: 2 for p50, 20 for p95, 100 for p99."""
    return math.ceil(round(100 / (100 - percent), 6))


def _binomial_cdf(count: int, n: int, share: float) -> float:
    if share in (0.0, 1.0):
        return 1.0 if share == 0.0 else float(count >= n)
    log_in, log_out = math.log(share), math.log1p(-share)
    whole = math.lgamma(n + 1)
    return math.fsum(
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * log_in + (n - k) * log_out)
        for k in range(count + 1)
    )
