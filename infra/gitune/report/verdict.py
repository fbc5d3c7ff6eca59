"""Whether plans are safe, need approval or are blocked, and why, in plain words. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from gitune.plan import Action, Change
from gitune.prices import Range
from gitune.providers.base import Estimate
from gitune.saved_plan import SavedPlan

_SHOWN = 5
WORDS: dict[Action, str] = {
    "train": "trained",
    "retrain": "trained again",
    "start": "started",
    "queue": "waiting",
    "adopt": "adopted",
    "stop": "stopped",
    "deploy": "deployed",
    "redeploy": "deployed anew",
    "remove": "removed",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of all plans together."""

    word: Literal["safe", "needs approval", "blocked"]
    reasons: tuple[str, ...]


def verdict(plans: Sequence[SavedPlan]) -> Verdict:
    """Blocked by a rule or by wrong files; else what somebody has to approve; else safe."""
    blocks = [reason for plan in plans for reason in _blocks(plan)]
    if blocks:
        return Verdict("blocked", tuple(blocks))
    approvals = [reason for plan in plans for reason in _approvals(plan)]
    if approvals:
        return Verdict("needs approval", tuple(approvals))
    actions = {change.action for plan in plans for change in plan.changes}
    if not actions:
        return Verdict("safe", ("no change",))
    waiting = ("what starts or waits was approved when it was merged",) if actions & {"start", "queue"} else ()
    if actions <= {"start", "queue"}:
        return Verdict("safe", waiting)
    return Verdict("safe", ("what changes costs nothing, and no alias answers otherwise", *waiting))


def estimate_of(change: Change) -> Estimate | None:
    """Of the candidate that is taken; None where nothing has yet to be paid for."""
    if change.forecast is None:
        return None
    estimates = [estimate for _, estimate in change.forecast.estimates]
    taken = [estimate for one, estimate in zip(change.candidates, estimates, strict=False) if one.taken]
    return next(iter(taken or estimates), None)


def total_usd(changes: Sequence[Change]) -> tuple[Range, int]:
    """Dollars of what has yet to be paid for, and of how many the cost is unknown."""
    costs = [estimate.usd for change in changes if (estimate := estimate_of(change)) is not None]
    known = [usd for usd in costs if usd is not None]
    low, expected, high = (sum(usd[place] for usd in known) for place in range(3))
    return (low, expected, high), len(costs) - len(known)


def counts(plan: SavedPlan) -> str:
    """Such as "2 trained, 1 removed"."""
    found = Counter(change.action for change in plan.changes)
    said = ", ".join(f"{found[action]:,} {word}" for action, word in WORDS.items() if found[action])
    return said or "no change"


def _blocks(plan: SavedPlan) -> Iterator[str]:
    rules: dict[str, list[str]] = {}
    for ruling in plan.rulings:
        if ruling.stands:
            rules.setdefault(ruling.refusal.rule, []).append(ruling.refusal.agent or "all agents")
    yield from (f"rule {rule} in {plan.stack} ({_some(agents)})" for rule, agents in rules.items())
    if plan.problems:
        yield f"{len(plan.problems):,} problem(s) in the files"


def _approvals(plan: SavedPlan) -> Iterator[str]:
    paid = [change for change in plan.changes if change.forecast is not None]
    (_, _, high), unknown = total_usd(paid)
    if high:
        yield f"{len(paid):,} training(s) in {plan.stack} that may cost up to ${high:,.2f}"
    if unknown:
        yield f"{unknown:,} training(s) in {plan.stack} whose cost is unknown"
    for actions, words in ((("deploy", "redeploy"), "alias(es) that answer otherwise"), (("remove",), "removal(s)")):
        number = sum(change.action in actions for change in plan.changes)
        if number:
            yield f"{number:,} {words} in {plan.stack}"
    allowed = list(dict.fromkeys(ruling.refusal.rule for ruling in plan.rulings if not ruling.stands))
    if allowed:
        yield f"overridden in {plan.stack}: {', '.join(allowed)}"
    if plan.unknown:
        yield f"nobody was asked about {plan.stack}: this plan was made from the files alone"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
