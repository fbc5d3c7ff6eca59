"""The verdict follows from the scores, holds up statistically, and says why."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitune.benchmark.gate import Contest, judge, judge_together
from gitune.benchmark.match import Regression
from gitune.benchmark.scores import Missing, Score, Scores, Unanswered
from gitune.spec import GateSpec

GATE = GateSpec(prove="threshold")


def scores(model: str, right: list[bool], latencies: tuple[float, ...] = (0.3,)) -> Scores:
    return Scores(model, tuple(Score(f"c{i}", "", float(ok)) for i, ok in enumerate(right)), latencies)


def paired(both: int, gained: int, lost: int, neither: int) -> tuple[Scores, Scores]:
    pairs = [(1, 1)] * both + [(1, 0)] * gained + [(0, 1)] * lost + [(0, 0)] * neither
    return scores("new", [bool(new) for new, _ in pairs]), scores("old", [bool(old) for _, old in pairs])


def test_a_clear_rise_passes() -> None:
    verdict = judge(GATE, scores("new", [True] * 140 + [False] * 10), scores("base", [False] * 150))
    assert verdict.outcome == "pass"
    assert "accuracy 0.0% → 93.3%: +93.3 points over the base model" in verdict.reasons[0]
    assert "150 cases" in verdict.reasons[0]


def test_no_rise_fails() -> None:
    same = [True, False] * 75
    assert judge(GATE, scores("new", same), scores("base", same)).outcome == "fail"


def test_ten_cases_prove_nothing() -> None:
    for right in (0, 5, 6, 10):
        new, base = scores("new", [i < right for i in range(10)]), scores("base", [i < 5 for i in range(10)])
        verdict = judge(GATE, new, base)
        assert verdict.outcome == "inconclusive"
        assert "10 cases prove nothing, at least 30 are needed (min_cases)" in verdict.reasons[0]
    assert judge(GATE, scores("new", [True] * 10), scores("base", [False] * 10)).outcome == "inconclusive"


def test_a_set_too_small_for_the_threshold_says_what_would_do() -> None:
    new, base = paired(60, 26, 7, 57)
    verdict = judge(GATE, new, base)
    assert verdict.outcome == "inconclusive"
    assert verdict.reasons[0] == (
        "accuracy 44.7% → 57.3%: +12.7 points over the base model (95 % interval +5.3 to +19.8, 150 cases: enough to "
        "find 10.8 points in 80 % of runs); too few cases to tell whether it is +8.0 or more; about 750 would"
    )


def test_a_threshold_that_is_met_to_the_point_is_near_whatever_the_cases() -> None:
    new, base = paired(600, 240, 80, 1080)
    assert judge(GATE, new, base).reasons[0].endswith("too few cases to tell whether it is +8.0 or more, it is so near")


def test_a_gate_that_asks_for_nothing_passes_on_one_case() -> None:
    gate = GateSpec(min_improvement=-1, max_regression=1)
    assert judge(gate, scores("new", [False]), scores("base", [True])).outcome == "pass"


def test_fewer_cases_may_be_declared_enough() -> None:
    new, base = scores("new", [True] * 20), scores("base", [False] * 20)
    assert judge(GATE, new, base).outcome == "inconclusive"
    assert judge(GateSpec(min_cases=20), new, base).outcome == "pass"


@pytest.mark.parametrize("asked", ["8%", "8 %", "8.0%"])
def test_a_relative_rise_is_spelled_out(asked: str) -> None:
    gate = GateSpec(min_improvement=asked)
    assert gate.relative_improvement == 0.08
    new, base = paired(250, 150, 20, 80)  # 54 % → 80 %, of which 8 % are 4.3 points
    verdict = judge(gate, new, base)
    assert verdict.outcome == "pass"
    assert "+48.1 % of what it scores (" in verdict.reasons[0]
    assert verdict.reasons[0].endswith("at least +8 % of the base model's 54.0%, so +4.3 points, asked")
    assert judge(gate, base, new).outcome == "fail"
    assert judge(gate, *paired(60, 12, 4, 74)).outcome == "inconclusive"


def test_any_proven_rise_is_more_than_a_share_of_nothing() -> None:
    gate = GateSpec(min_improvement="8%")
    verdict = judge(gate, *paired(0, 90, 0, 10))
    assert verdict.outcome == "pass"
    assert "which is no share of a base model that scores 0" in verdict.reasons[0]
    assert judge(gate, *paired(0, 1, 0, 99)).outcome == "inconclusive"


@pytest.mark.parametrize("bad", ["8 points", "-8%", 1.5, True, [8], "0.08"])
def test_a_threshold_that_is_neither_points_nor_a_share_is_refused(bad: object) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        GateSpec.model_validate({"min_improvement": bad})


def test_a_proven_rise_may_be_all_that_is_asked() -> None:
    gate = GateSpec()
    new, base = paired(300, 90, 40, 170)  # +8.3 points, at least +4.6
    assert judge(GATE, new, base).outcome == "inconclusive"
    verdict = judge(gate, new, base)
    assert verdict.outcome == "pass"
    assert verdict.reasons[0].endswith("; a rise is proven, and +8.0 is not ruled out")
    small = judge(gate, *paired(75, 22, 8, 45))
    assert small.outcome == "inconclusive"
    assert small.reasons[0].endswith("too few cases to find a rise of +8.0")
    assert judge(gate, *paired(0, 140, 0, 10)).outcome == "pass"  # 8 points and more are proven
    assert judge(gate, *paired(1000, 30, 10, 960)).outcome == "fail"  # a rise, but 8 points are ruled out
    assert judge(gate, *paired(300, 90, 66, 144)).outcome == "inconclusive"


def test_cases_of_one_source_count_once() -> None:
    def of(model: str, value: float, sources: int) -> Scores:
        return Scores(model, tuple(Score(f"c{i}", "", value, f"doc{i % sources}") for i in range(150)), (0.3,))

    verdict = judge(GATE, of("new", 1.0, 10), of("base", 0.0, 10))
    assert verdict.outcome == "inconclusive"
    assert "150 cases of 10 sources" in verdict.reasons[0]
    assert "cases of one source count once: 10 sources prove nothing" in verdict.reasons[0]
    assert judge(GATE, of("new", 1.0, 50), of("base", 0.0, 50)).outcome == "pass"


def test_what_was_not_answered_is_neither_right_nor_wrong() -> None:
    new, base = paired(60, 50, 5, 35)

    def without(scores: Scores, count: int, start: int = 0) -> Scores:
        gone = scores.scores[start : start + count]
        kept = tuple(score for score in scores.scores if score not in gone)
        return replace(scores, scores=kept, errors=tuple(Missing(each.case_id, 1, "timed out") for each in gone))

    assert judge(GATE, new, base).outcome == "pass"
    few = judge(GATE, without(new, 2), base)
    assert few.outcome == "pass"
    assert "; 2 answer(s) could not be had, and count as whatever speaks against the outcome" in few.reasons[0]
    assert "148 cases" in few.reasons[0]
    assert judge(GATE, without(new, 40), base).outcome == "inconclusive"
    assert judge(GATE, new, without(base, 40)).outcome == "pass"  # it had them right: nothing worse can be thought
    assert judge(GATE, new, without(base, 35, start=115)).outcome == "inconclusive"
    none = judge(GATE, without(new, 150), base)
    assert (none.outcome, none.reasons[0]) == ("inconclusive", "no case has a score of both models")
    same = judge(GateSpec(min_improvement=-1), without(new, 30), base, replace(new, model_id="old"))
    assert same.outcome == "inconclusive"
    assert same.reasons[1].endswith("what was not answered decides")


def test_a_case_that_failed_in_one_run_counts_in_the_others() -> None:
    new = tuple(Score(f"c{i}", "", 1.0, None, run) for i in range(40) for run in (1, 2))
    challenger = Scores("new", new[1:], (0.3,), (Missing("c0", 1, "timed out"),))
    verdict = judge(GATE, challenger, scores("base", [False] * 40))
    assert verdict.outcome == "pass"
    assert "40 cases" in verdict.reasons[0]
    assert "1 answer(s) could not be had" in verdict.reasons[0]


def test_every_case_that_got_worse_is_listed_with_both_answers() -> None:
    base = Scores("base", (Score("a", "four", 0.0), Score("b", "yes", 1.0), Score("c", "half", 0.5)), (0.3,))
    new = Scores("new", (Score("a", "4", 1.0), Score("b", "maybe", 0.0), Score("c", "third", 0.25)), (0.3,))
    (first, second) = judge(GATE, new, base).regressions
    assert first == Regression("b", 0.0, 1.0, "maybe", "yes")
    assert (second.case_id, second.answer, second.baseline_answer) == ("c", "third", "half")
    deployed = replace(new, model_id="old")
    assert judge(GATE, new, base, deployed).regressions == ()  # the baseline is what is in production
    assert judge(GATE, new, base, new).regressions == (first, second)
    assert judge(GATE, new, base, Unanswered("down")).regressions == ()


def test_several_runs_are_compared_where_they_differ_most() -> None:
    base = Scores("base", (Score("a", "yes", 1.0), Score("a", "no", 0.0, None, 2)), ())
    new = Scores("new", (Score("a", "nope", 0.0), Score("a", "never", 0.0, None, 2)), ())
    assert judge(GATE, new, base).regressions == (Regression("a", 0.0, 0.5, "nope", "yes"),)


def test_the_variation_of_runs_is_asked_for_only_where_it_is_declared() -> None:
    def runs(*right: int) -> Scores:
        asked = [(run, i) for run in range(1, len(right) + 1) for i in range(100)]
        return Scores(
            "new", tuple(Score(f"c{i}", "", float(i < right[run - 1]), None, run) for run, i in asked), (0.3,)
        )

    base, gate = scores("base", [False] * 100), GateSpec(max_variation=0.05)
    steady = judge(gate, runs(90, 92, 94), base)
    assert steady.outcome == "pass"
    assert steady.reasons[-1] == (
        "accuracy varies by 2.0 points (standard deviation of 3 runs: 90.0%, 92.0%, 94.0%), and 4.0% of the cases are "
        "not always scored the same; at most 5.0 points asked"
    )
    assert judge(gate, runs(70, 80, 95), base).outcome == "fail"
    assert judge(gate, runs(90, 90), base).outcome == "inconclusive"
    assert judge(GATE, runs(70, 80, 95), base).outcome == "pass"


def test_a_percentile_of_too_few_answers_proves_nothing() -> None:
    gate = GateSpec(latency_percentile=95)
    base = scores("base", [False] * 150)

    def outcome(latencies: tuple[float, ...]) -> str:
        return judge(gate, scores("new", [True] * 150, latencies), base).outcome

    assert outcome((0.3,) * 20) == "pass"
    assert outcome((0.3,) * 19) == "inconclusive"
    assert outcome((0.3,) * 17 + (9.0,) * 3) == "fail"
    assert outcome(()) == "inconclusive"
    shown = judge(gate, scores("new", [True] * 150, (0.2,) * 19 + (1.0,)), base).reasons[-1]
    assert shown == "p95 of the latency 0.24 s (20 answers, one at a time; p50 0.20 s); at most 2 s asked"


def test_several_agents_are_judged_more_strictly_than_one() -> None:
    near = Contest(GATE, *paired(70, 37, 9, 34))
    clear = Contest(GATE, *paired(0, 140, 0, 10))
    unasked = Contest(GATE, clear.challenger, Unanswered("down"))
    assert [verdict.outcome for verdict in judge_together([near])] == ["pass"]
    first, *_, last, missing = judge_together([near, *[clear] * 4, unasked])
    assert (first.outcome, first.level) == ("pass", 0.95)  # Holm: all others have passed
    assert last.outcome == "pass"
    assert (missing.outcome, missing.level) == ("inconclusive", 0.95)
    luck = [Contest(GATE, *paired(70, 20, 12, 48))] * 4
    first, *others = judge_together([near, *luck])
    assert (first.outcome, first.level) == ("inconclusive", pytest.approx(0.99))
    assert "99 % interval" in first.reasons[0]
    assert {each.outcome for each in others} == {"inconclusive"}


@given(*[st.integers(0, 60)] * 4)
def test_a_further_gain_never_makes_a_verdict_worse(both: int, gained: int, lost: int, neither: int) -> None:
    order = ["fail", "inconclusive", "pass"]
    before = judge(GATE, *paired(both, gained, lost + 1, neither)).outcome
    after = judge(GATE, *paired(both + 1, gained, lost, neither)).outcome
    assert order.index(after) >= order.index(before)


@pytest.mark.parametrize(("accuracy", "cases", "asked"), [(0.77, 180, 0.6), (0.91, 160, 0.5), (0.96, 162, 0.5)])
def test_the_five_agents_pass_with_what_they_measured(accuracy: float, cases: int, asked: float) -> None:
    new, base = scores("new", [i < accuracy * cases for i in range(cases)]), scores("base", [False] * cases)
    contest = Contest(GateSpec(min_improvement=asked), new, base)
    assert [verdict.outcome for verdict in judge_together([contest] * 5)] == ["pass"] * 5


def test_a_slow_model_fails() -> None:
    new = scores("new", [True] * 150, latencies=(1.0, 2.5, 2.6))
    verdict = judge(GATE, new, scores("base", [False] * 150))
    assert verdict.outcome == "fail"
    assert "median latency 2.50 s" in verdict.reasons[-1]


def test_an_answer_that_never_came_is_slower_than_any_limit() -> None:
    new, base = scores("new", [True] * 150, latencies=(1.0, 1.1, 1.2)), scores("base", [False] * 150)
    lost = (Missing("c4", 0, "timed out"),)
    assert judge(GATE, replace(new, untimed=lost), base).outcome == "pass"  # the median is the same without them
    verdict = judge(GATE, replace(new, untimed=lost * 4), base)
    assert verdict.outcome == "inconclusive"
    assert verdict.reasons[-1].endswith("at most 2 s asked, and 4 answer(s) more never came")


def test_worse_than_the_deployed_model_fails() -> None:
    base, deployed = scores("base", [False] * 150), scores("old", [True] * 150)
    new = scores("new", [True] * 140 + [False] * 10)
    assert judge(GATE, new, base, deployed).outcome == "fail"
    assert judge(GATE, deployed, base, deployed).outcome == "pass"


def test_scores_of_no_answer_are_not_a_number() -> None:
    assert math.isnan(Scores("m", (), ()).latency)
