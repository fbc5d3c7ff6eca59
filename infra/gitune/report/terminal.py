"""What a person sees: progress on standard error, tables on standard output."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from gitune.benchmark.run import OnProgress
from gitune.benchmark.scores import Unanswered
from gitune.plan import Change
from gitune.providers.base import Job
from gitune.reconcile import ModelState
from gitune.status import AgentStatus
from gitune.sunset import Notice
from gitune.up import AgentOutcome

_SIGNS = {"train": "+", "deploy": "+", "remove": "-", "stop": "!"}
_CALM_SECONDS = 10.0


def stderr_console() -> Console:
    """Where progress goes, so that standard output carries data only."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


class TerminalReporter:
    """Bars on a terminal; a calm line every ten seconds elsewhere. A context manager."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or stderr_console()
        self._bars: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("  {task.fields[agent]}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._said: dict[str, float] = {}

    def __enter__(self) -> TerminalReporter:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def note(self, text: str) -> None:
        self._console.print(text, markup=False)

    def change(self, change: Change) -> None:
        self.note(f"  {_SIGNS.get(change.action, '~')} {change.agent}: {change.summary}")
        for line in _below(change):
            self.note(f"  {line}")

    def notices(self, notices: Iterable[Notice]) -> None:
        for line in notice_lines(notices):
            self.note(f"  {line}")

    def jobs(self, jobs: Mapping[str, Job], states: Mapping[str, ModelState]) -> None:
        for agent, job in jobs.items():
            eta = f", {job.eta_seconds:.0f} s left" if job.eta_seconds else ""
            self._bar(agent, job.progress or 0.0, f"{job.detail}{eta}")
        for agent, state in states.items():
            if state.status == "queued" and agent not in jobs:
                self._bar(agent, 0.0, f"queued: {state.reason}", calm_seconds=60.0)

    def benchmark(self, agent: str, label: str, done: int, total: int) -> None:
        self._bar(agent, done / max(total, 1), f"benchmark of the {label}, {done} of {total} cases")

    def progress_of(self, agent: str) -> OnProgress:
        """`benchmark` of one agent."""
        return functools.partial(self.benchmark, agent)

    def stage(self, name: str, seconds: float) -> None:
        for bar in self._bars.values():
            self._progress.remove_task(bar)
        self._bars.clear()
        self._said.clear()
        self.note(f"{name}: {seconds:.1f} s")

    def _bar(self, agent: str, share: float, detail: str, calm_seconds: float = _CALM_SECONDS) -> None:
        if self._console.is_terminal:
            if agent not in self._bars:
                self._bars[agent] = self._progress.add_task("", total=1.0, agent=agent, detail=detail)
            self._progress.update(self._bars[agent], completed=share, detail=detail)
        elif time.monotonic() - self._said.get(agent, -calm_seconds) >= calm_seconds:
            self._said[agent] = time.monotonic()
            self.note(f"  {agent}: {share:.0%}, {detail}")


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
    settled = [outcome for outcome in outcomes if outcome.settled]
    if settled:
        console.print(f'next: {command} chat {settled[0].spec.alias} "..."', markup=False)


def _happened(outcome: AgentOutcome) -> str:
    words = {"train": "trained", "retrain": "retrained", "start": "trained", "adopt": "adopted"}
    actions = [words[c.action] for c in outcome.changes if c.action in words][:1]  # what follows is its queueing
    if any(change.action in ("deploy", "redeploy") for change in outcome.changes):
        actions.append("deployed")
    if outcome.state is None or outcome.state.status != "succeeded":
        return outcome.state.status if outcome.state else "not trained"
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
        kept = f"{outcome.lock.version} stays deployed" if outcome.lock else "nothing is deployed"
        yield f"hint: the gate kept the model back, {kept}; more or better examples, or an argued gate in agent.yaml"


def _below(change: Change) -> Iterable[str]:
    yield from (f"    because {reason}" for reason in change.reasons)
    yield from (f"    {line}" for line in (change.forecast.lines() if change.forecast else ()))


def notice_lines(notices: Iterable[Notice]) -> Iterable[str]:
    """Each end that concerns an agent, and what to do next."""
    for notice in notices:
        yield f"! {notice.agent}: {notice.message}"
        yield f"    hint: {notice.hint}"


def print_plan(changes: Iterable[Change], notices: Iterable[Notice] = ()) -> None:
    """The changes in order, what ends at the agents' providers, and what follows from the changes."""
    console = Console(highlight=False, soft_wrap=True)
    changes, notices = tuple(changes), tuple(notices)
    for number, change in enumerate(changes):
        console.print(f"{_SIGNS.get(change.action, '~')} {change.agent}: {change.summary}", markup=False)
        for line in _below(change):
            console.print(line, markup=False)
        if all(later.agent != change.agent for later in changes[number + 1 :]):
            for line in notice_lines(notice for notice in notices if notice.agent == change.agent):
                console.print(line, markup=False)
    changed = {change.agent for change in changes}
    for line in notice_lines(notice for notice in notices if notice.agent not in changed):
        console.print(line, markup=False)
    if not changes:
        console.print("no change")
    if any(change.action in ("train", "retrain", "start", "queue", "adopt") for change in changes):
        console.print("each model is then benchmarked, and deployed if it passes its gate")


def print_status(rows: Iterable[AgentStatus]) -> None:
    """One line for each agent, and what ends at its providers."""
    rows = tuple(rows)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("agent", "model", "on", "version", "accuracy", "alias", "note"):
        table.add_column(title, no_wrap=title != "note")
    for row in rows:
        accuracy = f"{row.accuracy:.0%}" if row.accuracy is not None else "-"
        table.add_row(row.agent, row.model, row.provider or "-", row.version or "-", accuracy, row.alias_note, row.note)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    for line in notice_lines(notice for row in rows for notice in row.sunset):
        console.print(line, markup=False)
