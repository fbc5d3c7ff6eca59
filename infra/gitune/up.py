"""`gitune up`: passes of the engine until every agent is settled, with the waiting done here, outside the engine."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Any

from gitune.costs import note_spendings
from gitune.deploy import forget_refusals, locked_route, read_refusals, read_routes
from gitune.errors import ProviderError, UserError, explain
from gitune.events import Begun, Changed, Judged, Note, Reporter, Stage, Training, benchmark_teller
from gitune.files import try_lock, write_atomic
from gitune.forecast import recorded_estimate
from gitune.hosting import host_models
from gitune.limits import Heard
from gitune.lock import read_lock
from gitune.outcome import AgentOutcome
from gitune.plan import Change, explain_step, plan_pass
from gitune.preflight import judge_pass, refuse
from gitune.project import Project
from gitune.promote import Challenger, Promotion, TrainedModel, examine, promote
from gitune.providers.base import Job
from gitune.reconcile import ModelState
from gitune.refusals import Ruling
from gitune.report.rules import ruling_line
from gitune.round import Round, handed_over, take_round
from gitune.saved_plan import SavedPlan, check_approved, saved_plan
from gitune.scheduler import next_poll_seconds
from gitune.shared_routes import SharedRoutes
from gitune.smoke import smoke_tests
from gitune.spec import load_agents
from gitune.stack import Notify, PulumiStack, Step
from gitune.stack_spec import Hosting
from gitune.state import resource_outputs
from gitune.wishes import Wish, wished, within_budgets


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
    note = _note(reporter)
    with _staged(reporter, "checking files"):
        wishes = wished(project)
    with _only_one_up(project, note):
        if approved is not None:
            check_approved(approved, saved_plan(project, plan_pass(project), ()))
        stack = PulumiStack.open(project, wishes)
        stack.mend(note)
        routes = SharedRoutes(project)
        routes.fetch(note)
        if retry_failed:
            forget_refusals(project.routes_file)
        run = _Run(project, stack, wishes, reporter, retry_failed, poll_seconds, max_wait_seconds, force)
        states = run.train_all()
        promotions = {} if stop_after_training else run.promote_all(states)
        if run.must_record(states, promotions):
            run.engine_pass("deploying" if promotions else "recording")
        routes.publish()
        run.smoke_test()
        routes.publish()
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
        self.note = _note(reporter)
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
        self.told: dict[str, Training] = {}
        """By agent, what was told of its training last."""
        self.estimates: dict[str, float | None] = {}
        """By training key, expected dollars."""
        self.silent: Mapping[str, Heard] = {}
        self.seen: Mapping[str, Job | None] = {}
        reporter.tell(Begun(project.stack.name, tuple(self.specs)))
        self.round = self._look(retry)

    @property
    def recorded(self) -> Mapping[str, ModelState]:
        return {agent: ModelState.from_outputs(outputs) for agent, outputs in self.outputs.items()}

    def engine_pass(self, stage: str) -> None:
        """One pass of the engine towards the round's targets, unless a rule refuses it."""
        self._ask_the_rules()
        self._host()
        with self._stage(stage), handed_over(self.round, self.project) as targets:
            self._record(self.stack.up(targets, self._on_step, self.note))
        self._note_spendings()

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
        host_models(self.project, wanted, self.note)

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
        with self._stage("benchmarks and gate"):
            found = [self._examined(agent, state) for agent, state in states.items() if state.status == "succeeded"]
            promotions = promote([challenger for challenger in found if challenger is not None], self.project)
        for agent, promotion in promotions.items():
            self.reporter.tell(Judged(agent, promotion.verdict.outcome, promotion.verdict.reasons))
        return promotions

    def _examined(self, agent: str, state: ModelState) -> Challenger | None:
        try:
            told = benchmark_teller(self.reporter, agent)
            return examine(self.specs[agent], self.project, self._trained(agent, state), told)
        except (ProviderError, UserError) as error:
            self.unjudged[agent] = f"{state.provider}: {explain(error)}"
            return None

    def must_record(self, states: Mapping[str, ModelState], promotions: Mapping[str, Promotion]) -> bool:
        """Whether the engine has not seen yet what is true now."""
        behind = any(self.recorded.get(agent) != state for agent, state in states.items())
        return behind or any(promotion.passed for promotion in promotions.values())

    def smoke_test(self) -> None:
        """Ask what was put behind an alias; take back what fails."""
        if self.project.stack.smoke_test is None:
            return
        with self._stage("smoke test"):
            for one in smoke_tests(self.project, self.specs):
                back = f"{one.back.version} answers again" if one.back else "nothing answers now"
                self.note(f"! {one.agent}: alias {one.alias}: {one.failed.version} was taken back, {back}")
                if one.back is not None:
                    host_models(self.project, [(one.alias, one.back)], self.note)

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
            self.note(ruling_line(ruling))
        self.overridden |= set(rulings)

    def _on_step(self, step: Step) -> None:
        change = explain_step(step, self.wishes, self.round, self.project)
        if change is None or change in self.changes:
            return
        if change.action != "queue" or not any(c.agent == change.agent for c in self.changes):  # said in its bar
            self.changes.append(change)
            self.reporter.tell(Changed(change))

    def _note_spendings(self) -> None:
        """A store that is away stops nobody: state and locks tell of the latest trainings until it is back."""
        try:
            note_spendings(self.project, self.deployment)
        except UserError as error:
            self.note(f"what was spent could not be noted: {error.message}")

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
                self.note(f"{provider}: {heard.said}")
        self.silent, self.seen = taken.silent, taken.seen
        self._tell_trainings(taken)
        return taken

    def _tell_trainings(self, taken: Round) -> None:
        for agent, state in taken.states.items():
            standing = self._training(agent, state, taken)
            if standing != self.told.get(agent):
                self.told[agent] = standing
                self.reporter.tell(standing)

    def _training(self, agent: str, state: ModelState, taken: Round) -> Training:
        job = taken.jobs.get(agent)
        submits = taken.targets[agent].submit is not None
        live = job if job is not None and job.live else None
        return Training(
            agent,
            state.status,
            state.provider,
            job_id=state.job_id,
            detail=(live.detail if live else "") or state.reason or ("being submitted" if submits else ""),
            place=taken.places.get(agent),
            progress=live.progress if live else None,
            seconds=live.seconds if live else state.seconds,
            eta_seconds=live.eta_seconds if live else None,
            cost_usd=state.cost_usd,
            estimated_usd=self._estimated_usd(agent, state) if live else None,
        )

    def _estimated_usd(self, agent: str, state: ModelState) -> float | None:
        """As it was expected before the training began; None where nobody can say."""
        if state.key not in self.estimates:
            requests = (request for request in self.wishes[agent].requests if request.key == state.key)
            estimates = [recorded_estimate(request, self.project).usd for request in requests]
            self.estimates[state.key] = next((usd[1] for usd in estimates if usd), None)
        return self.estimates[state.key]

    def _wait(self) -> None:
        """Ask the providers until the engine has something to do, nothing is left to wait for, or it took too long."""
        if self.round.settled:
            return
        with self._stage("training"):
            self._poll()

    def _poll(self) -> None:
        started = time.monotonic()
        polls = 0
        while not (self.round.due or self.round.settled):
            left = self.patience - (time.monotonic() - started)
            if left <= 0:
                self.note("waited long enough: the jobs go on, and the next run goes on from here")
                break
            states = self.round.states
            self._expect_answers()
            near = all(state.provider == "local" for state in states.values() if state.status != "succeeded")
            seconds = next_poll_seconds(polls, longest=self.poll_seconds or (1.0 if near else 15.0))
            if self.round.until is not None:
                seconds = max(0.1, min(seconds, self.round.until - time.time()))
            time.sleep(min(seconds, left))
            self.round = self._look()
            polls += 1
        self.patience -= time.monotonic() - started

    def _stage(self, name: str) -> AbstractContextManager[None]:
        return _staged(self.reporter, name)

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
def _staged(reporter: Reporter, name: str) -> Iterator[None]:
    started = time.monotonic()
    reporter.tell(Stage(name))
    yield
    reporter.tell(Stage(name, time.monotonic() - started))


def _note(reporter: Reporter) -> Notify:
    return lambda text: reporter.tell(Note(text))


@contextmanager
def _only_one_up(project: Project, note: Notify) -> Iterator[None]:
    """Two calls in one clone take turns; the second says who it waits for. The lock dies with its owner."""
    path = project.state_folder / f"up-{project.stack.name}.lock"
    owner = path.with_suffix(".owner")
    lock = try_lock(path)
    if lock is None:
        who = owner.read_text(encoding="utf-8") if owner.is_file() else "unknown"
        note(f"waiting for another gitune up ({who})")
        while lock is None:
            lock = try_lock(path, wait_seconds=5.0)
    with lock:
        write_atomic(owner, f"process {os.getpid()}, since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
        yield
