"""No budget is ever exceeded, whichever allowed candidate each agent ends up with."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitune.budget import Committed, Training, first_allowed, refusals
from gitune.prices import Range
from gitune.stack_spec import Budgets

ROUNDING = 1e-6

dollars = st.floats(0, 50, allow_subnormal=False).map(lambda value: round(value, 3))
limits = st.none() | dollars
ranges: st.SearchStrategy[Range] = st.tuples(dollars, dollars, dollars).map(lambda usd: tuple(sorted(usd)))  # type: ignore[arg-type,return-value]
candidates = st.lists(st.none() | st.just((0.0, 0.0, 0.0)) | ranges, min_size=1, max_size=3).map(tuple)
sets = st.dictionaries(st.sampled_from("abcde"), st.tuples(candidates, limits), max_size=4).map(
    lambda wanted: [Training(agent, usd, budget) for agent, (usd, budget) in wanted.items()]
)
budgets = st.builds(Budgets, plan=limits, month=limits)
spent = st.builds(Committed, plan=dollars, month=dollars)


def worst(training: Training, reasons: tuple[str | None, ...]) -> float:
    """The dearest that may happen to an agent."""
    allowed = [usd for usd, reason in zip(training.usd, reasons, strict=True) if reason is None]
    return max((usd[2] for usd in allowed if usd), default=0.0)


@given(sets, budgets, spent)
def test_no_budget_is_exceeded(trainings: list[Training], stack: Budgets, committed: Committed) -> None:
    said = refusals(trainings, stack, committed)
    costs = {training.agent: worst(training, said[training.agent]) for training in trainings}
    for training in trainings:
        assert training.budget_usd is None or costs[training.agent] <= training.budget_usd + ROUNDING
    total = sum(costs.values())
    for budget, before in ((stack.plan, committed.plan), (stack.month, committed.month)):
        assert budget is None or total == 0 or total + before <= budget + ROUNDING


@given(sets, budgets, spent)
def test_the_order_of_the_agents_does_not_matter(trainings: list[Training], stack: Budgets, spent: Committed) -> None:
    first = refusals(trainings, stack, spent)
    for order in itertools.islice(itertools.permutations(trainings), 6):
        assert refusals(order, stack, spent) == first


@given(sets, budgets, spent, dollars, st.booleans(), st.booleans())
def test_more_in_a_shared_budget_never_refuses_more(
    trainings: list[Training], stack: Budgets, spent: Committed, more: float, plan: bool, month: bool
) -> None:
    def raised(budget: float | None, raise_it: bool) -> float | None:
        return budget + more if raise_it and budget is not None else None if raise_it else budget

    before = refusals(trainings, stack, spent)
    after = refusals(trainings, Budgets(plan=raised(stack.plan, plan), month=raised(stack.month, month)), spent)
    for agent, reasons in before.items():
        for was, now in zip(reasons, after[agent], strict=True):
            assert was is not None or now is None


@given(sets, budgets, spent, dollars)
def test_more_for_an_agent_never_refuses_more_of_its_own(
    trainings: list[Training], stack: Budgets, spent: Committed, more: float
) -> None:
    for training in trainings:
        others = [other for other in trainings if other != training]
        budget = None if training.budget_usd is None else training.budget_usd + more
        richer = Training(training.agent, training.usd, budget)
        was = refusals(trainings, stack, spent)[training.agent]
        now = refusals([*others, richer], stack, spent)[training.agent]
        assert all(before is not None or after is None for before, after in zip(was, now, strict=True))


@given(sets, budgets, spent)
def test_what_is_free_for_certain_is_allowed_and_what_is_unknown_is_not(
    trainings: list[Training], stack: Budgets, spent: Committed
) -> None:
    said = refusals(trainings, stack, spent)
    for training in trainings:
        limited = (training.budget_usd, stack.plan, stack.month) != (None, None, None)
        for usd, reason in zip(training.usd, said[training.agent], strict=True):
            if usd is None:
                assert (reason is not None) == limited
            elif usd[2] == 0:
                assert reason is None


FREE: Range = (0.0, 0.0, 0.0)
MISTRAL: Range = (4.0, 4.0, 6.1)
OPENAI: Range = (91.0, 91.0, 91.0)


def test_the_reason_says_both_ends_of_the_estimate_and_whose_budget_it_is() -> None:
    said = refusals([Training("qa", (OPENAI, MISTRAL, None, FREE), 5.0)], Budgets())
    assert said == {
        "qa": (
            "$91.00, over the budget of $5.00 for agent qa",
            "$4.00 expected, up to $6.10, over the budget of $5.00 for agent qa",
            "cost unknown, and the budget for agent qa is $5.00",
            None,
        )
    }
    assert first_allowed(said["qa"]) == 3
    assert first_allowed(("no", "no")) is None


def test_a_plan_goes_to_the_cheapest_candidates_first_and_then_by_name() -> None:
    names = ("analyst", "content", "legal", "qa", "support")
    said = refusals([Training(name, (OPENAI, MISTRAL, FREE)) for name in names], Budgets(plan=20))
    assert [first_allowed(said[name]) for name in names] == [1, 1, 1, 2, 2]
    before = "$18.30 spent or planned before it"
    assert said["qa"][1] == f"$4.00 expected, up to $6.10, and {before}, over the budget of $20.00 for this plan"


def test_a_month_counts_what_was_spent_before() -> None:
    said = refusals([Training("qa", (MISTRAL,))], Budgets(month=100), Committed(month=95))
    before = "$95.00 spent or planned before it"
    assert said["qa"][0] == f"$4.00 expected, up to $6.10, and {before}, over the budget of $100.00 for this month"
    assert refusals([Training("qa", (MISTRAL,))], Budgets(month=101.1), Committed(month=95)) == {"qa": (None,)}


@pytest.mark.parametrize("high", [float("inf"), float("nan")])
def test_what_is_no_number_is_unknown(high: float) -> None:
    training = Training("qa", ((1.0, 1.0, high), FREE))
    assert refusals([training], Budgets()) == {"qa": (None, None)}
    assert refusals([training], Budgets(plan=5))["qa"][0] == "cost unknown, and the budget for a plan is $5.00"
