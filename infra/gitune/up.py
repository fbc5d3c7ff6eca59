"""`gitune up`: passes of the engine until every agent is settled, with the waiting done here, outside the engine."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from gitune.costs import note_spendings
from gitune.deploy import TakenBack, forget_refusals, locked_route, read_refusals, read_routes
from gitune.errors import ProviderError, UserError, explain
from gitune.files import try_lock, write_atomic
from gitune.hosting import host_models
from gitune.limits import Heard
from gitune.lock import Lock, read_lock
from gitune.plan import Change, explain_step, plan_pass
from gitune.preflight import judge_pass, refuse
from gitune.project import Project
from gitune.promote import Promotion, TrainedModel, examine, promote
from gitune.providers.base import Job
from gitune.reconcile import ModelState
from gitune.refusals import Ruling
from gitune.report.rules import ruling_line
from gitune.round import Round, handed_over, take_round
from gitune.saved_plan import SavedPlan, check_approved, saved_plan
from gitune.scheduler import next_poll_seconds
from gitune.smoke import smoke_tests
from gitune.spec import AgentSpec, load_agents
from gitune.stack import PulumiStack, Step
from gitune.stack_spec import Hosting
from gitune.state import resource_outputs
from gitune.wishes import Wish, wished, within_budgets


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
    refusal: TakenBack | None = None
    """The model that failed its smoke test and was taken back."""

    @property
    def settled(self) -> bool:
        """The wanted model is trained, passed its gate and answers."""
        trained = self.state is None or self.state.status == "succeeded"
        passed = (self.promotion is None or self.promotion.passed) and not self.unjudged
        locked = self.lock is not None or self.state is not None
        return trained and passed and (self.deployed or not (self.served and locked))

    @property
    def goes_on(self) -> bool:
        """Nothing is wrong: the training is queued or runs, and the next `gitune up` takes it from there."""
        return self.state is not None and self.state.status in ("queued", "running")

    @property
    def new_model(self) -> bool:
        """A model is trained that is not the locked one."""
        state = self.state
        if state is None or state.status != "succeeded":
            return False
        return self.lock is None or self.lock.model_id != state.model_id

    @property
    def standing(self) -> Lock | None:
        """The lock, where it already rested on the evidence that the trained model would be judged by."""
        state, lock = self.state, self.lock
        judged_now = self.promotion is not None or self.unjudged or state is None or state.status != "succeeded"
        return None if judged_now or lock is None or state is None or lock.model_id != state.model_id else lock


def run_up(
    project: Project,
    reporter: Reporter,
    *,
    retry_failed: bool = False,
    poll_seconds: float | None = None,
    max_wait_seconds: float | None = None,
    stop_after_training: bool = False,
    force: Collection[str] = (),
    approved: SavedPlan | None = None,
) -> tuple[AgentOutcome, ...]:
    """Train, benchmark, gate, lock and deploy every agent of the stack; what is done already is not done again.

    `poll_seconds` is the longest pause between two questions to the providers; None: 15, or 1 where all is local.
    After `max_wait_seconds` no job is waited for any more: what is trained by then is benchmarked, and the jobs go on.
    `stop_after_training` ends before any benchmark. May be killed at any moment and called again. `force` names rules
    that are not to refuse. With `approved` nothing is done unless a plan made now does the same. Raises InvalidInput
    before anything is started, UserError before a pass that a rule refuses or nobody approved, and EngineError.
    """
    wishes = wished(project)
    with _only_one_up(project, reporter):
        if approved is not None:
            check_approved(approved, saved_plan(project, plan_pass(project), ()))
        stack = PulumiStack.open(project, wishes)
        stack.mend(reporter.note)
        if retry_failed:
            forget_refusals(project.routes_file)
        run = _Run(project, stack, wishes, reporter, retry_failed, poll_seconds, max_wait_seconds, force)
        states = run.train_all()
        promotions = {} if stop_after_training else run.promote_all(states)
        if run.must_record(states, promotions):
            run.engine_pass("deploying" if promotions else "recording")
        run.smoke_test()
        return run.outcomes(states, promotions)


class _Run:
    """One call of `up`: the engine, and what its steps changed so far."""

    def __init__(
        self,
        project: Project,
        stack: PulumiStack,
        wishes: Sequence[Wish],
        reporter: Reporter,
        retry: bool,
        poll_seconds: float | None,
        max_wait_seconds: float | None,
        force: Collection[str],
    ) -> None:
        self.project = project
        self.stack = stack
        self.reporter = reporter
        self.poll_seconds = poll_seconds
        self.force = force
        self.overridden: set[Ruling] = set()
        """What was told of them."""
        self.started = time.time()
        self.patience = float("inf") if max_wait_seconds is None else max_wait_seconds
        """Seconds that may still be spent on waiting for providers."""
        self.changes: list[Change] = []
        self.unjudged: dict[str, str] = {}
        """Agents whose model could not be asked, and why."""
        self.deployment: Mapping[str, Any] = {}
        self._record(stack.recorded())
        allowed = within_budgets(wishes, project, self.recorded, self.deployment)
        self.wishes = {wish.agent: wish for wish in allowed}
        self.specs = {spec.name: spec for spec in load_agents(project.root)}
        self.silent: Mapping[str, Heard] = {}
        self.seen: Mapping[str, Job | None] = {}
        self.round = self._look(retry)

    @property
    def recorded(self) -> Mapping[str, ModelState]:
        return {agent: ModelState.from_outputs(outputs) for agent, outputs in self.outputs.items()}

    def engine_pass(self, stage: str) -> None:
        """One pass of the engine towards the round's targets, unless a rule refuses it."""
        self._ask_the_rules()
        self._host()
        started = time.monotonic()
        with handed_over(self.round, self.project) as targets:
            self._record(self.stack.up(targets, self._on_step, self.reporter.note))
        self._note_spendings()
        self.reporter.stage(stage, time.monotonic() - started)

    def _host(self) -> None:
        """Put what the locks name where it answers, before an alias is pointed there."""
        if "deployments" not in self.project.stack.declare or self.project.stack.hosting == Hosting():
            return
        refusals = read_refusals(self.project.routes_file)
        wanted = []
        for spec in self.specs.values():
            route, refusal = locked_route(spec, self.project), refusals.get(spec.alias)
            if route is not None and not (refusal and refusal.of(route)):
                wanted.append((spec.alias, route))
        host_models(self.project, wanted, self.reporter.note)

    def train_all(self) -> Mapping[str, ModelState]:
        """Passes and waiting, until no model's status can change any more, or patience is at its end."""
        while True:
            self.engine_pass("reconciling" if self.wishes else "deploying")
            self.round = self._look()
            if not self.round.due:
                self._wait()
            if not self.round.due:
                return self.round.states

    def promote_all(self, states: Mapping[str, ModelState]) -> Mapping[str, Promotion]:
        """Benchmark every trained model whose lock does not say it all already; gate them together."""
        started = time.monotonic()
        challengers = []
        for agent, state in states.items():
            if state.status != "succeeded":
                continue
            try:
                told = functools.partial(self.reporter.benchmark, agent)
                challengers.append(examine(self.specs[agent], self.project, self._trained(agent, state), told))
            except (ProviderError, UserError) as error:
                self.unjudged[agent] = f"{state.provider}: {explain(error)}"
        promotions = promote([challenger for challenger in challengers if challenger is not None], self.project)
        if promotions:
            self.reporter.stage("benchmarks and gate", time.monotonic() - started)
        return promotions

    def must_record(self, states: Mapping[str, ModelState], promotions: Mapping[str, Promotion]) -> bool:
        """Whether the engine has not seen yet what is true now."""
        behind = any(self.recorded.get(agent) != state for agent, state in states.items())
        return behind or any(promotion.passed for promotion in promotions.values())

    def smoke_test(self) -> None:
        """Ask what was put behind an alias; take back what fails."""
        started = time.monotonic()
        for one in smoke_tests(self.project, self.specs):
            back = f"{one.back.version} answers again" if one.back else "nothing answers now"
            self.reporter.note(f"  ! {one.agent}: alias {one.alias}: {one.failed.version} was taken back, {back}")
            if one.back is not None:
                host_models(self.project, [(one.alias, one.back)], self.reporter.note)
        if self.project.stack.smoke_test is not None:
            self.reporter.stage("smoke test", time.monotonic() - started)

    def outcomes(
        self, states: Mapping[str, ModelState], promotions: Mapping[str, Promotion]
    ) -> tuple[AgentOutcome, ...]:
        served = "deployments" in self.project.stack.declare
        routes = {route.agent: route for route in read_routes(self.project.routes_file).values()} if served else {}
        refusals = read_refusals(self.project.routes_file) if served else {}
        outcomes = []
        for name, spec in self.specs.items():
            lock = read_lock(self.project.lock_file(name))
            route = routes.get(name)
            deployed = lock is not None and route is not None and route.model_id == lock.model_id
            changes = tuple(change for change in self.changes if change.agent == name)
            unjudged = self.unjudged.get(name, "")
            promotion = promotions.get(name)
            refusal = refusals.get(spec.alias)
            outcomes.append(
                AgentOutcome(spec, states.get(name), promotion, lock, served, deployed, changes, unjudged, refusal)
            )
        return tuple(outcomes)

    def _ask_the_rules(self) -> None:
        rulings = judge_pass(self.project, self.specs.values(), self.deployment, self.round.targets, self.force)
        refuse(rulings)
        for ruling in set(rulings) - self.overridden:
            self.reporter.note(ruling_line(ruling))
        self.overridden |= set(rulings)

    def _on_step(self, step: Step) -> None:
        change = explain_step(step, self.wishes, self.round, self.project)
        if change is None or change in self.changes:
            return
        if change.action != "queue" or not any(c.agent == change.agent for c in self.changes):  # said in its bar
            self.changes.append(change)
            self.reporter.change(change)

    def _note_spendings(self) -> None:
        """A store that is away stops nobody: state and locks tell of the latest trainings until it is back."""
        try:
            note_spendings(self.project, self.deployment)
        except UserError as error:
            self.reporter.note(f"what was spent could not be noted: {error.message}")

    def _record(self, deployment: Mapping[str, Any]) -> None:
        self.deployment = deployment
        self.outputs = resource_outputs(deployment, "FineTunedModel")

    def _look(self, retry: bool = False) -> Round:
        wishes = tuple(self.wishes.values())
        taken = take_round(
            self.project,
            wishes,
            self.recorded,
            time.time(),
            started=self.started,
            retry=retry,
            before=self.silent,
            known=self.seen,
        )
        for provider, heard in taken.silent.items():
            if provider not in self.silent:
                self.reporter.note(f"{provider}: {heard.said}")
        self.silent, self.seen = taken.silent, taken.seen
        return taken

    def _wait(self) -> None:
        """Ask the providers until the engine has something to do, nothing is left to wait for, or it took too long."""
        started = time.monotonic()
        polls = 0
        while not (self.round.due or self.round.settled):
            left = self.patience - (time.monotonic() - started)
            if left <= 0:
                self.reporter.note("waited long enough: the jobs go on, and the next run goes on from here")
                break
            states = self.round.states
            self.reporter.jobs({agent: job for agent, job in self.round.jobs.items() if job.live}, states)
            self._expect_answers()
            near = all(state.provider == "local" for state in states.values() if state.status != "succeeded")
            seconds = next_poll_seconds(polls, longest=self.poll_seconds or (1.0 if near else 15.0))
            if self.round.until is not None:
                seconds = max(0.1, min(seconds, self.round.until - time.time()))
            time.sleep(min(seconds, left))
            self.round = self._look()
            polls += 1
        took = time.monotonic() - started
        self.patience -= took
        self.reporter.stage("training", took)

    def _expect_answers(self) -> None:
        """Raises UserError where waiting would not end: a job runs, and nobody will tell us of its end."""
        for heard in self.silent.values():
            if heard.kind in ("closed", "unauthorized") and self._runs_at(heard.provider):
                raise UserError(f"{heard.provider}: {heard.said}", hint="its jobs go on; run gitune up again later")

    def _runs_at(self, provider: str) -> bool:
        states = self.round.states.values()
        return any(state.status == "running" and state.provider == provider for state in states)

    def _trained(self, agent: str, state: ModelState) -> TrainedModel:
        wish = self.wishes[agent]
        request = next(request for request in wish.requests if request.key == state.key)
        job = Job(
            request.key, state.job_id, "succeeded", state.model_id, seconds=state.seconds, cost_usd=state.cost_usd
        )
        return TrainedModel(request, job, wish.examples, state.reason)


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
    verdict, reasons = _judgement(outcome)
    return {
        "agent": outcome.spec.name,
        "alias": outcome.spec.alias,
        "settled": outcome.settled,
        "goes_on": outcome.goes_on,
        "new_model": outcome.new_model,
        "model": outcome.state.outputs() if outcome.state else None,
        "version": outcome.lock.version if outcome.lock else None,
        "verdict": verdict,
        "reasons": reasons,
        "regressions": [asdict(one) for one in outcome.promotion.verdict.regressions] if outcome.promotion else [],
        "deployed": outcome.deployed,
        "taken_back": asdict(outcome.refusal) if outcome.refusal else None,
        "changes": [change.as_dict() for change in outcome.changes],
    }


def _judgement(outcome: AgentOutcome) -> tuple[str | None, list[str]]:
    """The verdict of now, or else the one that stands in the lock; with its reasons."""
    if outcome.promotion is not None:
        return outcome.promotion.verdict.outcome, list(outcome.promotion.verdict.reasons)
    if outcome.standing is not None:
        return outcome.standing.verdict["outcome"], list(outcome.standing.verdict["reasons"])
    return None, [outcome.unjudged] if outcome.unjudged else []
