"""The formulas, against scipy, statsmodels and published tables; and the laws that they keep."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from gitune.benchmark import statistics as ours
from gitune.benchmark.paired import Paired

VALUES = st.sampled_from([0.0, 0.25, 0.5, 1.0])
COUNTS = st.integers(0, 40)


def table(both: int, gained: int, lost: int, neither: int) -> Paired:
    pairs = [(1, 1)] * both + [(1, 0)] * gained + [(0, 1)] * lost + [(0, 0)] * neither
    return Paired(tuple(float(new) for new, _ in pairs), tuple(float(old) for _, old in pairs))


def graded(n: int, seed: int = 1, cases_of_a_source: int = 1) -> Paired:
    dice = random.Random(seed)
    new, old = [], []
    for i in range(n):
        if i % cases_of_a_source == 0:
            hard = dice.random()  # for all cases of a source
        new.append(round(hard * dice.random() ** 0.3, 3))
        old.append(round(hard * dice.random(), 3))
    sources = tuple(i // cases_of_a_source for i in range(n)) if cases_of_a_source > 1 else None
    return Paired(tuple(new), tuple(old), sources)


# Rates


def test_wilson_is_wilsons() -> None:
    # Newcombe 1998 (single proportion), table I, method 3: 81/263 and 0/20
    assert ours.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert ours.wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


@given(st.integers(1, 400), st.integers(0, 400), st.sampled_from([0.8, 0.95, 0.99]))
def test_bounds_of_rates_are_statsmodels(n: int, count: int, level: float) -> None:
    count = min(count, n)
    wilson = proportion_confint(count, n, 1 - level, method="wilson")
    assert ours.wilson(count, n, level) == pytest.approx(wilson, abs=1e-9)
    exact = proportion_confint(count, n, 2 * (1 - level), method="beta")[1]
    assert ours.upper_bound(count, n, level) == pytest.approx(1.0 if count == n else exact, abs=1e-9)


@pytest.mark.parametrize(("n", "bound"), [(10, 0.26), (15, 0.18), (20, 0.14), (30, 0.10), (50, 0.06), (100, 0.03)])
def test_none_of_n_leaves_what_the_published_table_says(n: int, bound: float) -> None:
    # Hanley and Lippman-Hand, JAMA 249 (1983): "If nothing goes wrong, is everything all right?"
    assert ours.upper_bound(0, n) == pytest.approx(bound, abs=0.006)
    assert ours.upper_bound(0, n) == pytest.approx(1 - 0.05 ** (1 / n))
    assert ours.upper_bound(0, n) < ours.rule_of_three(n)


# Tests


@pytest.mark.parametrize(
    ("gained", "lost", "exact", "mid_p"),
    [
        (1, 7, 0.070, 0.039),  # Bentur et al. in Fagerland, Lydersen and Laake 2013, table 1
        (12, 2, 0.0129, None),  # Armitage and Berry 1994, p. 127
        (0, 0, 1.0, 1.0),
    ],
)
def test_mcnemar_is_the_published_one(gained: int, lost: int, exact: float, mid_p: float | None) -> None:
    assert ours.mcnemar(gained, lost) == pytest.approx(exact, abs=5e-4)
    if mid_p is not None:
        assert ours.mcnemar(gained, lost, mid_p=True) == pytest.approx(mid_p, abs=5e-4)


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_statsmodels(gained: int, lost: int) -> None:
    theirs = their_mcnemar([[5, gained], [lost, 5]], exact=True).pvalue if gained + lost else 1.0
    assert ours.mcnemar(gained, lost) == pytest.approx(theirs, rel=1e-9)
    assert ours.mcnemar(gained, lost) == ours.mcnemar(lost, gained)
    assert ours.mcnemar(gained, lost, mid_p=True) <= ours.mcnemar(gained, lost)
    if gained != lost:
        point = stats.binom.pmf(min(gained, lost), gained + lost, 0.5)
        assert ours.mcnemar(gained, lost, mid_p=True) == pytest.approx(theirs - point, rel=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_holm_is_statsmodels_and_its_levels_decide_the_same(seed: int) -> None:
    dice = random.Random(seed)
    p_values = [dice.choice([0.0, 0.002, 0.005, 0.02, 0.1, 1.0]) * dice.random() for _ in range(seed + 1)]
    rejected, adjusted, _, _ = multipletests(p_values, 0.025, "holm")
    assert ours.holm(p_values) == pytest.approx(adjusted)
    levels = ours.holm_levels(p_values)
    assert [p <= ours.tail_of(level) for p, level in zip(p_values, levels, strict=True)] == list(rejected)
    assert min(levels) >= 0.95 - 1e-12


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_helps_a_test_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = ours.holm(p_values)
    assert all(p <= after <= 1 for p, after in zip(p_values, adjusted, strict=True))
    by_p = sorted(zip(p_values, adjusted, strict=True))
    assert [after for _, after in by_p] == sorted(adjusted)


def test_one_agent_alone_is_not_corrected() -> None:
    assert ours.holm_levels([0.9]) == pytest.approx((0.95,))
    assert ours.holm_levels([0.001, 0.002]) == pytest.approx((0.975, 0.95))


# Spreads


@given(st.lists(st.tuples(VALUES, st.integers(0, 5)), min_size=3, max_size=40))
@settings(deadline=None)
def test_clustered_errors_are_statsmodels(drawn: list[tuple[float, int]]) -> None:
    values, sources = [value for value, _ in drawn], [source for _, source in drawn]
    assert ours.standard_error(values) == pytest.approx(stats.sem(values), abs=1e-12)
    if len(set(sources)) < 2:
        assert math.isnan(ours.standard_error(values, sources))
        return
    fit = OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": np.array(sources)})
    assert ours.standard_error(values, sources) == pytest.approx(fit.bse[0], abs=1e-9)


@pytest.mark.parametrize("degrees", [5, 10, 30, 100, 1000])
@pytest.mark.parametrize("tail", [0.1, 0.025, 0.005])
def test_students_quantiles_are_scipys(degrees: int, tail: float) -> None:
    assert ours.t_quantile(tail, degrees) == pytest.approx(stats.t.isf(tail, degrees), rel=2e-3)


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=60), st.floats(0, 100))
def test_percentiles_are_numpys(values: list[float], percent: float) -> None:
    assert ours.percentile(values, percent) == pytest.approx(float(np.percentile(values, percent)), abs=1e-9)


def test_a_percentile_needs_answers_beyond_it() -> None:
    assert [ours.answers_for_percentile(percent) for percent in (50, 95, 99)] == [2, 20, 100]
    assert math.isnan(ours.percentile([], 50))


def test_variation_is_between_runs() -> None:
    found = ours.variation({"a": [1, 1, 1], "b": [1, 0, 1], "c": [0, 0, 0], "d": [0.5, 0.5, 1]})
    assert found.means == (0.625, 0.375, 0.75)
    assert found.deviation == pytest.approx(np.std(found.means, ddof=1))
    assert found.changed == 0.5
    with pytest.raises(ValueError, match="zip"):
        ours.variation({"a": [1, 1], "b": [1]})


# What a set can show


def test_the_detectable_difference_is_millers() -> None:
    # Miller 2024, section 5: variance 1/9 of the differences, 3 points, 80 % power: just under a thousand questions
    n = 969
    assert ours.detectable_difference(math.sqrt(1 / 9 / n)) == pytest.approx(0.03, abs=1e-4)


@pytest.mark.parametrize(("n", "discordance"), [(150, 0.25), (300, 0.1), (1000, 0.3)])
def test_connors_gain_is_found_in_four_of_five_sets(n: int, discordance: float) -> None:
    gain = ours.detectable_gain(n, discordance)
    shares = [(discordance + gain) / 2, (discordance - gain) / 2, 1 - discordance]
    drawn = np.random.default_rng(1).multinomial(n, shares, size=1500)
    found = np.mean([ours.mcnemar(int(gained), int(lost), mid_p=True) < 0.05 for gained, lost, _ in drawn])
    assert found == pytest.approx(0.8, abs=0.04)


@given(st.integers(4, 2000), st.floats(0, 1))
def test_more_cases_show_smaller_differences(n: int, discordance: float) -> None:
    assert ours.detectable_gain(2 * n, discordance) < ours.detectable_gain(n, discordance) <= 1
    assert ours.detectable_gain(n, discordance, level=0.99) >= ours.detectable_gain(n, discordance)


# Pairs


@pytest.mark.parametrize(
    ("cells", "expected"),
    [  # Newcombe 1998 (paired), table II, method 10: counts a b c d, and the limits
        ((36, 12, 2, 0), (0.0569, 0.3404)),
        ((54, 0, 0, 0), (-0.0664, 0.0664)),  # all agree: Wilson's lower limit of 54/54, both ways
    ],
)
def test_the_interval_of_right_and_wrong_is_newcombes(
    cells: tuple[int, int, int, int], expected: tuple[float, float]
) -> None:
    difference, low, high = table(*cells).interval()
    assert difference == pytest.approx((cells[1] - cells[2]) / sum(cells))
    assert (low, high) == pytest.approx(expected, abs=6e-4)


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_the_interval_holds_the_difference_and_mirrors(both: int, gained: int, lost: int, neither: int) -> None:
    if both + gained + lost + neither == 0:
        return
    difference, low, high = table(both, gained, lost, neither).interval()
    assert -1 - 1e-9 <= low <= difference + 1e-9
    assert difference - 1e-9 <= high <= 1 + 1e-9
    back = table(both, lost, gained, neither).interval()
    assert back == pytest.approx((-difference, -high, -low), abs=1e-9)


@given(COUNTS, COUNTS, st.integers(1, 40), COUNTS)
def test_more_confidence_widens_and_a_gain_in_place_of_a_loss_raises(
    both: int, gained: int, lost: int, no: int
) -> None:
    paired = table(both, gained, lost, no)
    narrow, wide = paired.interval(0.9), paired.interval(0.99)
    assert wide.low <= narrow.low <= narrow.high <= wide.high
    better = table(both, gained + 1, lost - 1, no).interval(0.9)
    assert better.estimate > narrow.estimate
    assert better.low >= narrow.low - 1e-9


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_interval_of_graded_scores_is_scipys_bootstrap(level: float) -> None:
    paired = graded(80)
    values = np.array(paired.new) - np.array(paired.old)
    theirs = stats.bootstrap((values,), np.mean, confidence_level=level, n_resamples=20_000, method="BCa", rng=1)
    mine = paired.interval(level)
    assert mine.estimate == pytest.approx(values.mean())
    assert mine[1:] == pytest.approx(theirs.confidence_interval, abs=0.003)
    assert paired.interval(level) == graded(80).interval(level)


def test_sources_that_go_together_widen_the_interval_as_their_errors_say() -> None:
    paired = graded(120, cases_of_a_source=6)
    apart = Paired(paired.new, paired.old)
    values = [new - old for new, old in zip(paired.new, paired.old, strict=True)]
    error = ours.standard_error(values, paired.sources)
    low, high = paired.interval()[1:]
    assert (high - low) / (2 * 1.96) == pytest.approx(error, rel=0.1)
    assert high - low > 1.1 * (apart.interval().high - apart.interval().low)
    assert paired.detectable() > apart.detectable()


def test_copies_of_right_and_wrong_cases_add_nothing() -> None:
    once = table(30, 12, 4, 14)
    copies = Paired(once.new * 5, once.old * 5, tuple(range(60)) * 5)
    alone, copied = once.interval(), copies.interval()
    assert copied.estimate == pytest.approx(alone.estimate)
    assert copied.high - copied.low == pytest.approx(alone.high - alone.low, rel=0.06)  # t with 59 degrees, not z
    assert copies.units == 60


def test_one_source_alone_proves_nothing_beyond_itself() -> None:
    paired = Paired((1.0,) * 50, (0.0,) * 50, ("document",) * 50)
    assert paired.interval().low < 0.1


def test_equal_gains_are_not_certain() -> None:
    estimate, low, high = Paired((0.75,) * 100, (0.25,) * 100).interval()
    assert estimate == 0.5
    assert low == pytest.approx(0.5 - (1 - 0.025**0.01) * 1.5)
    assert 0.5 < high < 0.52


@given(st.lists(st.tuples(VALUES, VALUES), min_size=2, max_size=12))
@settings(deadline=None, max_examples=15)
def test_graded_intervals_mirror_too(pairs: list[tuple[float, float]]) -> None:
    new, old = (tuple(column) for column in zip(*pairs, strict=True))
    forth, back = Paired(new, old).interval(), Paired(old, new).interval()
    assert back == pytest.approx((-forth.estimate, -forth.high, -forth.low), abs=1e-9)
    assert forth.low - 1e-9 <= forth.estimate <= forth.high + 1e-9


@pytest.mark.parametrize("paired", [table(20, 60, 20, 50), graded(100)], ids=["right or wrong", "graded"])
@pytest.mark.parametrize("times", [1.0, 1.08])
@pytest.mark.parametrize("tail", [0.2, 0.025, 0.002, 1e-5])
def test_the_p_value_is_the_tail_at_which_the_interval_meets_the_threshold(
    paired: Paired, times: float, tail: float
) -> None:
    threshold = paired.interval(1 - 2 * tail, times).low
    assert paired.p_value(threshold, times) == pytest.approx(tail, rel=0.02)


def test_the_p_value_of_no_rise_is_one() -> None:
    assert table(20, 10, 10, 20).p_value(0.0) == 1.0


@pytest.mark.parametrize("paired", [table(60, 40, 15, 35), graded(100)], ids=["right or wrong", "graded"])
def test_a_relative_rise_is_a_ratio_whose_limits_agree_with_the_contrast(paired: Paired) -> None:
    estimate, low, high = paired.relative_interval()
    assert estimate == pytest.approx(sum(paired.new) / sum(paired.old) - 1)
    assert low < estimate < high
    assert paired.interval(times=1 + low).low == pytest.approx(0, abs=1e-6)
    assert paired.interval(times=1 + high).high == pytest.approx(0, abs=1e-6)


def test_a_relative_rise_is_near_the_delta_methods() -> None:
    paired = table(500, 150, 70, 280)
    new, old, n = 650, 570, 1000
    error = math.sqrt(
        (150 + 70) / (new * old)
    )  # of the logarithm of a ratio of paired shares (Nam and Blackwelder 2002)
    low, high = (math.exp(math.log(new / old) + sign * 1.96 * error) - 1 for sign in (-1, 1))
    assert len(paired.new) == n
    assert paired.relative_interval()[1:] == pytest.approx((low, high), abs=0.01)


def test_nothing_is_a_share_of_nothing() -> None:
    estimate, low, high = table(0, 90, 0, 10).relative_interval()
    assert math.isinf(estimate)
    assert math.isinf(high)
    assert low > 5


def test_values_that_do_not_pair_are_refused() -> None:
    with pytest.raises(ValueError, match="equally many"):
        Paired((1.0,), (1.0, 0.0))
    with pytest.raises(ValueError, match="between 0 and 1"):
        Paired((1.5,), (1.0,))
