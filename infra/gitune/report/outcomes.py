"""The end of `gitune up`: a table on standard output, and why anything is not settled."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from gitune.benchmark.scores import Unanswered
from gitune.report.text import fit

if TYPE_CHECKING:
    from gitune.benchmark.gate import Verdict
    from gitune.outcome import AgentOutcome

_MOST_REGRESSIONS = 3
_LONGEST_ANSWER = 120


def print_outcomes(outcomes: Iterable[AgentOutcome], command: str) -> None:
    """The table at the end of `up`, why anything is not settled, and what to type next."""
    outcomes = tuple(outcomes)
    console = Console(highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("agent", "what happened", "accuracy", "latency", "verdict", "deployed"):
        table.add_column(title, no_wrap=title != "what happened")
    for outcome in outcomes:
        table.add_row(outcome.spec.name, _happened(outcome), *_measured(outcome), _deployed(outcome))
    console.print(table)
    for outcome in outcomes:
        for line in _why_not(outcome):
            console.print(f"{outcome.spec.name}: {line}", markup=False)
    deployed = [outcome for outcome in outcomes if outcome.settled and outcome.deployed and outcome.served]
    if deployed:
        console.print(f'next: {command} chat {deployed[0].spec.alias} "..."', markup=False)


def _happened(outcome: AgentOutcome) -> str:
    words = {"train": "trained", "retrain": "retrained", "start": "trained", "adopt": "adopted"}
    actions = [words[c.action] for c in outcome.changes if c.action in words][:1]  # what follows is its queueing
    if any(change.action in ("deploy", "redeploy") for change in outcome.changes):
        actions.append("deployed")
    if outcome.state is None:  # of a stack that trains nothing
        return ", ".join(actions) or ("no change" if outcome.lock else "no lock")
    if outcome.state.status != "succeeded":
        return outcome.state.status
    facts = [] if actions[:1] == ["deployed"] else _paid(outcome)
    told = f" ({', '.join(facts)})" if facts else ""
    return f"{', '.join(dict.fromkeys(actions))}{told}" if actions else "no change"


def _paid(outcome: AgentOutcome) -> list[str]:
    """Time and money of the training; the money beside what was estimated."""
    state, lock = outcome.state, outcome.lock
    facts = [f"{state.seconds:.0f} s"] if state and state.seconds else []
    estimated = lock.job.get("estimated_usd") if lock and state and lock.model_id == state.model_id else None
    if state and state.cost_usd:
        facts.append(f"${state.cost_usd:.2f}, {f'estimated ${estimated[1]:.2f}' if estimated else 'no estimate'}")
    return facts


def _measured(outcome: AgentOutcome) -> tuple[str, str, str]:
    """Accuracy, latency and verdict of now, or else those that stand in the lock."""
    if outcome.promotion is not None:
        evidence = outcome.promotion.evidence
        before = None if isinstance(evidence.base, Unanswered) else evidence.base.accuracy
        after, seconds = evidence.challenger.accuracy, evidence.challenger.latency
        verdict: str = outcome.promotion.verdict.outcome
    elif outcome.standing is not None:
        said, verdict = outcome.standing.benchmark, outcome.standing.verdict["outcome"]
        before, after, seconds = said["base_accuracy"], said["accuracy"], said["latency_seconds"]
    else:
        return "-", "-", "-"
    return f"{'?' if before is None else f'{before:.0%}'} → {after:.0%}", f"{seconds:.2f} s", verdict


def _deployed(outcome: AgentOutcome) -> str:
    if not outcome.deployed or outcome.lock is None:
        return "no"
    return f"{outcome.spec.alias} → {outcome.lock.version}"


def _why_not(outcome: AgentOutcome) -> Iterable[str]:
    if outcome.state is not None and outcome.state.status != "succeeded":
        yield f"{outcome.state.status}: {outcome.state.reason or 'no reason given'}"
        if outcome.state.status == "failed":
            yield "hint: mend the cause, then run gitune up --retry"
    if outcome.unjudged:
        yield f"trained, but not benchmarked: {outcome.unjudged}"
    if outcome.refusal is not None:
        yield f"{outcome.refusal.version} failed its smoke test and was taken back: {outcome.refusal.reason}"
        yield "hint: mend the cause, then run gitune up --retry; or gitune rollback, which makes git say so too"
    promotion = outcome.promotion
    if promotion is not None and not promotion.passed:
        for check in promotion.verdict.checks:
            if check.outcome != "pass":
                yield f"{check.outcome}: {check.reason}"
        yield from _regressions(promotion.verdict)
        kept = f"{outcome.lock.version} stays deployed" if outcome.lock else "nothing is deployed"
        yield f"hint: the gate kept the model back, {kept}; more or better examples, or an argued gate in agent.yaml"


def _regressions(verdict: Verdict) -> Iterable[str]:
    """The worst of the cases on which the baseline is better, with both answers."""
    for one in verdict.regressions[:_MOST_REGRESSIONS]:
        before, after = fit(one.baseline_answer, _LONGEST_ANSWER), fit(one.answer, _LONGEST_ANSWER)
        yield f'worse: case {one.case_id}: {one.baseline_value:g} → {one.value:g}, "{before}" → "{after}"'
    left = len(verdict.regressions) - _MOST_REGRESSIONS
    if left > 0:
        yield f"{left} more cases are worse; all of them: --json"
