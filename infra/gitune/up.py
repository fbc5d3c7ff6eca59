"""`gitune up`: passes of the engine until every agent is settled, with the waiting done here, outside the engine."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from gitune.deploy import read_routes
from gitune.errors import ProviderError, Retired, Unauthorized, explain
from gitune.files import try_lock, write_atomic
from gitune.lock import Lock, read_lock
from gitune.plan import Change, explain_step
from gitune.project import Project, check_for_engine
from gitune.promote import Promotion, TrainedModel, promote
from gitune.providers.base import Job, TrainingKey, TrainingRequest
from gitune.reconcile import ModelState
from gitune.scheduler import next_poll_seconds, pass_is_due, waiting_for
from gitune.spec import AgentSpec
from gitune.stack import PulumiStack, Step


class Reporter(Protocol):
    """Where `up` tells what it does; see report/terminal.py."""

    def note(self, text: str) -> None: ...
    def change(self, change: Change) -> None: ...
    def jobs(self, jobs: Mapping[str, Job], states: Mapping[str, ModelState]) -> None: ...
    def benchmark(self, agent: str, label: str, done: int, total: int) -> None: ...
    def stage(self, name: str, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class AgentOutcome:
    """Where one agent stands at the end of `up`."""

    spec: AgentSpec
    state: ModelState | None
    promotion: Promotion | None
    lock: Lock | None
    served: bool
    """The stack declares deployments."""
    deployed: bool
    """The alias answers with the locked model."""
    changes: tuple[Change, ...]
    unjudged: str = ""
    """Why the trained model could not be benchmarked."""

    @property
    def settled(self) -> bool:
        """The wanted model is trained, passed its gate and answers."""
        passed = self.promotion is None or self.promotion.evidence.verdict.outcome == "pass"
        passed = passed and not self.unjudged
        return (
            (self.state is None or self.state.status == "succeeded") and passed and (self.deployed or not self.served)
        )


def run_up(project: Project, reporter: Reporter, *, retry_failed: bool = False) -> tuple[AgentOutcome, ...]:
    """Train, benchmark, gate, lock and deploy every agent of the stack; what is done already is not done again.

    May be killed at any moment and called again. Raises InvalidInput before anything is started, and EngineError.
    """
    agents = check_for_engine(project)
    with _only_one_up(project, reporter):
        run = _Run(project, PulumiStack.open(project, agents), agents.specs, reporter)
        run.stack.mend(reporter.note)
        states = run.train_all(retry_failed)
        promotions = run.promote_all(states)
        if run.must_record(states, promotions):
            run.engine_pass("deploying")
        return run.outcomes(states, promotions)


class _Run:
    """One call of `up`: the engine, and what its steps changed so far."""

    def __init__(
        self, project: Project, stack: PulumiStack, specs: Mapping[str, AgentSpec], reporter: Reporter
    ) -> None:
        self.project = project
        self.stack = stack
        self.specs = specs
        self.reporter = reporter
        self.changes: list[Change] = []
        self.recorded: Mapping[str, Mapping[str, Any]] = {}
        self.unjudged: dict[str, str] = {}
        """Agents whose model could not be asked, and why."""

    def engine_pass(self, stage: str, *, retry_failed: bool = False) -> dict[str, ModelState]:
        """One pass of the engine. Returns what it recorded of each agent's model."""
        started = time.monotonic()
        self.recorded = self.stack.up(self._on_step, self.reporter.note, retry_failed=retry_failed)
        self.reporter.stage(stage, time.monotonic() - started)
        return {agent: ModelState.from_outputs(outputs) for agent, outputs in self.recorded.items()}

    def train_all(self, retry_failed: bool) -> dict[str, ModelState]:
        """Passes and waiting, until no model's status can change any more."""
        states = self.engine_pass("reconciling", retry_failed=retry_failed)
        idle_passes = 0
        while waiting_for({agent: state.status for agent, state in states.items()}):
            started = time.monotonic()
            states, due = self._wait(states, idle_passes)
            self.reporter.stage("training", time.monotonic() - started)
            if due:
                before = {agent: state.status for agent, state in states.items()}
                states = self.engine_pass("reconciling")
                idle_passes = idle_passes + 1 if before == {a: s.status for a, s in states.items()} else 0
        return states

    def promote_all(self, states: Mapping[str, ModelState]) -> dict[str, Promotion]:
        """Benchmark and gate every trained model."""
        started = time.monotonic()
        promotions = {}
        for agent, state in states.items():
            if state.status != "succeeded" or agent not in self.specs:
                continue
            try:
                promotions[agent] = promote(
                    self.specs[agent],
                    self.project,
                    self._trained(agent, state),
                    lambda label, done, total, agent=agent: self.reporter.benchmark(agent, label, done, total),  # type: ignore[misc]
                )
            except ProviderError as error:
                self.unjudged[agent] = f"{state.provider}: {explain(error)}"
        if promotions:
            self.reporter.stage("benchmarks and gate", time.monotonic() - started)
        return promotions

    def must_record(self, states: Mapping[str, ModelState], promotions: Mapping[str, Promotion]) -> bool:
        """Whether the engine has not seen yet what is true now."""
        recorded = {agent: ModelState.from_outputs(outputs).status for agent, outputs in self.recorded.items()}
        behind = any(recorded.get(agent) != state.status for agent, state in states.items())
        return behind or any(promotion.written for promotion in promotions.values())

    def outcomes(
        self, states: Mapping[str, ModelState], promotions: Mapping[str, Promotion]
    ) -> tuple[AgentOutcome, ...]:
        routes = {route.agent: route for route in read_routes(self.project.routes_file).values()}
        outcomes = []
        for name, spec in self.specs.items():
            lock = read_lock(self.project.lock_file(name))
            route = routes.get(name)
            deployed = lock is not None and route is not None and route.model_id == lock.model_id
            served = "deployments" in self.project.stack.declare
            changes = tuple(change for change in self.changes if change.agent == name)
            unjudged = self.unjudged.get(name, "")
            promotion = promotions.get(name)
            outcomes.append(AgentOutcome(spec, states.get(name), promotion, lock, served, deployed, changes, unjudged))
        return tuple(outcomes)

    def _on_step(self, step: Step) -> None:
        change = explain_step(step, self.specs, self.project)
        if change is not None and change not in self.changes:
            self.changes.append(change)
            self.reporter.change(change)

    def _wait(self, states: Mapping[str, ModelState], idle_passes: int) -> tuple[dict[str, ModelState], bool]:
        """Ask the providers until a job ends. Returns the states as they are then, and whether a pass is due."""
        running = {agent: state for agent, state in states.items() if state.status == "running"}
        if not running:  # all queued behind somebody else's jobs
            time.sleep(next_poll_seconds(idle_passes))
            return dict(states), True
        polls = 0
        while True:
            jobs = self._poll(running)
            self.reporter.jobs(jobs, states)
            before = {agent: state.status for agent, state in running.items()}
            now = {agent: job.status for agent, job in jobs.items()}
            if any(status != "running" for status in now.values()) or len(now) < len(running):
                queued = any(state.status == "queued" for state in states.values())
                return self._merged(states, jobs), pass_is_due(before, now, queued=queued)
            near = all(state.provider == "local" for state in running.values())
            time.sleep(next_poll_seconds(polls, longest=1.0 if near else 15.0))
            polls += 1

    def _poll(self, running: Mapping[str, ModelState]) -> dict[str, Job]:
        """One call for each provider, however many jobs it has."""
        by_provider: dict[str, dict[TrainingKey, str]] = {}
        for agent, state in running.items():
            by_provider.setdefault(state.provider, {})[TrainingKey(state.key)] = agent
        found: dict[str, Job] = {}
        for provider, agents in by_provider.items():
            try:
                jobs = self.project.provider(provider).list_jobs(list(agents))
            except (Unauthorized, Retired):
                raise  # waiting would not end
            except ProviderError as error:
                self.reporter.note(f"{provider}: {error.message}")  # no answer is not an answer: they still run
                jobs = {key: Job(key, "", "running", detail="no answer") for key in agents}
            found |= {agents[key]: job for key, job in jobs.items()}
        return found

    def _merged(self, states: Mapping[str, ModelState], jobs: Mapping[str, Job]) -> dict[str, ModelState]:
        merged = dict(states)
        for agent, job in jobs.items():
            if job.status == "succeeded":
                known = states[agent].outputs()
                facts = {"model_id": job.model_id, "seconds": job.seconds, "cost_usd": job.cost_usd}
                merged[agent] = ModelState(**{**known, **facts, "status": "succeeded"})
        return merged

    def _trained(self, agent: str, state: ModelState) -> TrainedModel:
        outputs = self.recorded[agent]
        candidate = next(c for c in outputs["candidates"] if c["key"] == state.key)
        request = TrainingRequest.from_recorded(candidate, outputs["fingerprint"])
        job = Job(
            request.key, state.job_id, "succeeded", state.model_id, seconds=state.seconds, cost_usd=state.cost_usd
        )
        return TrainedModel(request, job, int(outputs["examples"]))


@contextmanager
def _only_one_up(project: Project, reporter: Reporter) -> Iterator[None]:
    """Two calls in one clone take turns; the second says who it waits for. The lock dies with its owner."""
    path = project.state_folder / f"up-{project.stack.name}.lock"
    owner = path.with_suffix(".owner")
    lock = try_lock(path)
    if lock is None:
        who = owner.read_text(encoding="utf-8") if owner.is_file() else "unknown"
        reporter.note(f"waiting for another gitune up ({who})")
        while lock is None:
            lock = try_lock(path, wait_seconds=5.0)
    with lock:
        write_atomic(owner, f"process {os.getpid()}, since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
        yield


def outcome_json(outcomes: tuple[AgentOutcome, ...]) -> str:
    """What `gitune up --json` prints."""
    return json.dumps([_as_dict(outcome) for outcome in outcomes], indent=2, ensure_ascii=False)


def _as_dict(outcome: AgentOutcome) -> dict[str, Any]:
    evidence = outcome.promotion.evidence if outcome.promotion else None
    return {
        "agent": outcome.spec.name,
        "alias": outcome.spec.alias,
        "settled": outcome.settled,
        "model": outcome.state.outputs() if outcome.state else None,
        "version": outcome.lock.version if outcome.lock else None,
        "verdict": evidence.verdict.outcome if evidence else None,
        "reasons": list(evidence.verdict.reasons) if evidence else [outcome.unjudged] if outcome.unjudged else [],
        "deployed": outcome.deployed,
        "changes": [change.as_dict() for change in outcome.changes],
    }
