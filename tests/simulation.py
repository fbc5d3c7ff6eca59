"""Providers in virtual time, and `gitune up` as up.py and resources/model.py drive it: rounds, passes, records, polls.

The rounds are the real ones (round.take_round, reconcile.submit, reconcile.refuse). Only the providers, the engine and
the clock are made up, so that thousands of agents, days and every kind of fault fit into seconds.
"""

from __future__ import annotations

import heapq
import json
import math
import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

from gitune.errors import ProviderError, QuotaExceeded, Rejected, Retired, Unanswered, Unauthorized, Unavailable
from gitune.limits import kind_of
from gitune.project import Project
from gitune.providers.base import Job, ListedJob, Model, TrainingKey, TrainingRequest, short
from gitune.providers.settings import ProviderSettings
from gitune.providers.submissions import LISTED_AFTER_SECONDS
from gitune.reconcile import ModelState, Target, refuse, submit
from gitune.round import Round, take_round
from gitune.scheduler import next_poll_seconds
from gitune.wishes import Wish

Excess = Literal["fails", "waits", "refused"]
EPOCH = 1_790_000_000.0
HOUR = 3600.0
LATE_SECONDS = 40.0
"""After which a job too many fails."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of virtual time, in seconds from the beginning."""

    start: float
    end: float = math.inf

    def __contains__(self, moment: float) -> bool:
        return self.start <= moment < self.end


NEVER = Window(math.inf)


@dataclass(frozen=True, slots=True)
class Account:
    """What a provider does, and what the stack says of it. Its name decides which kind it is taken for (needs.py)."""

    running: int | None = None
    total: int | None = None
    excess: Excess = "fails"
    declared: bool = True
    """Whether the stack has the limits."""
    down: Window = NEVER
    throttled: Window = NEVER
    """429 with Retry-After for every submission."""
    retry_after: float = 90.0
    unauthorized: Window = NEVER
    retired: Window = NEVER
    """Takes no new jobs; lists go on."""
    lag: float = 0.0
    """Until an accepted job is listed."""
    lost_answers: frozenset[int] = frozenset()
    """Numbers of accepted submissions whose answer does not arrive."""
    strangers: tuple[Window, ...] = ()
    """Jobs of others; one that does not fit is not started."""


@dataclass(slots=True)
class Training:
    """A job as its provider keeps it."""

    job_id: str
    key: str
    created: float
    seconds: float
    started: float | None = None
    ended: float | None = None
    failure: ProviderError | None = None
    """Why it fails at its end."""

    @property
    def paid(self) -> bool:
        return not isinstance(self.failure, QuotaExceeded)

    def status(self) -> Literal["queued", "running", "succeeded", "failed"]:
        if self.ended is not None:
            return "failed" if self.failure else "succeeded"
        return "queued" if self.started is None else "running"


class SimulatedProvider:
    """One account. Asked as a driver is; submissions are noted as submissions.py notes them."""

    def __init__(self, name: str, account: Account, world: World) -> None:
        self.name, self.account, self._world = name, account, world
        self.jobs: dict[str, list[Training]] = {}
        """By training key, oldest first."""
        self._all: list[Training] = []
        self._live: dict[str, Training] = {}
        self._ends: list[tuple[float, str]] = []
        self._strangers = sorted(account.strangers, key=lambda window: window.start)
        self._notes: dict[str, tuple[float, str | None]] = {}
        self._accepted = 0
        self.used = 0
        self.most_at_once = 0
        self.excesses: list[Training] = []
        """Accepted jobs that broke a limit."""
        self.arrivals = 0
        """Jobs of others that were started."""
        self.refusals = 0
        self.lists = 0
        self.asked = 0
        """Keys of the last list."""
        self.settled_at = 0.0
        """Seconds from the beginning."""

    @property
    def patient(self) -> bool:
        """Whether somebody waits for a limit here that does not free up by itself."""
        return any(
            name == self.name and wait is not None
            for agent in self._world.agents
            for name, wait in zip(agent.candidates, agent.waits, strict=False)
        )

    # --- what gitune asks

    def list_jobs(self, keys: Collection[TrainingKey]) -> Mapping[TrainingKey, Job]:
        self._answers()
        self.lists += 1
        self.asked = len(keys)
        found = {}
        for key in keys:
            noted = self._notes.get(key, (0.0, None))[1]
            shown = [job for job in self.jobs.get(key, ()) if self._is_listed(job) or job.job_id == noted]
            useful = [job for job in shown if not job.failure or job.ended is None]
            if shown:
                found[key] = self._said((useful or shown)[-1], key)
        return found

    def all_jobs(self) -> Sequence[ListedJob]:
        self._answers()
        self.lists += 1
        return [ListedJob(j.job_id, j.status(), short(j.key) or None) for j in self._all if self._is_listed(j)]

    def find_job(self, key: TrainingKey) -> Job | None:
        return self.list_jobs([key]).get(key)

    def get_model(self, model_id: str) -> Model | None:
        self._answers()
        return Model(model_id, "base") if model_id.startswith(f"{self.name}:") else None

    def submit_job(self, request: TrainingRequest, dataset: Path) -> Job:
        key = request.key
        found = self.find_job(key)
        if found is not None and (found.live or found.status == "succeeded"):
            return found
        at, noted = self._notes.get(key, (-math.inf, "answered"))
        if noted is None and self._world.now < at + LISTED_AFTER_SECONDS:
            raise Unanswered("the answer was lost", retry_after=at + LISTED_AFTER_SECONDS - self._world.now)
        self._refuse(key)
        self._notes[key] = (self._world.now, None)
        job = self._accept(key)
        if self._accepted in self.account.lost_answers:
            raise Unavailable("the connection was cut")
        self._notes[key] = (self._world.now, job.job_id)
        return self._said(job, key)

    # --- what it does

    def settle(self) -> None:
        """Let everything happen that is due."""
        now = self._world.now
        self.settled_at = self._world.seconds
        while True:
            stranger = EPOCH + self._strangers[0].start if self._strangers else math.inf
            end = self._ends[0][0] if self._ends else math.inf
            if min(stranger, end) > now:
                return
            if stranger <= end:
                window = self._strangers.pop(0)
                if not self._full() and not self._spent():
                    self.arrivals += 1
                    self._start(self._new("", stranger, window.end - window.start), stranger)
            else:
                _, job_id = heapq.heappop(self._ends)
                job = self._live.pop(job_id)
                job.ended = end
                self._start_waiting(end)

    def _answers(self) -> None:
        account, moment = self.account, self._world.seconds
        if moment in account.down:
            raise Unavailable("503")
        if moment in account.unauthorized:
            raise Unauthorized("401")
        self.settle()

    def _refuse(self, key: str) -> None:
        account, moment = self.account, self._world.seconds
        self.refusals += 1
        if moment in account.retired:
            raise Retired("410")
        if moment in account.throttled:
            raise QuotaExceeded("429", kind="concurrent", retry_after=account.retry_after)
        if self._world.flaws.get(key) == "rejected":
            raise Rejected("line 3 is wrong")
        if account.excess == "refused" and self._spent():
            raise QuotaExceeded("no credit", kind="lifetime")
        if account.excess == "refused" and self._full():
            raise QuotaExceeded("too many at once", kind="concurrent")
        self.refusals -= 1

    def _accept(self, key: str) -> Training:
        self._accepted += 1
        flaw = self._world.flaws.get(key)
        job = self._new(key, self._world.now, self._world.durations[key])
        self.jobs.setdefault(key, []).append(job)
        if self._spent():
            job.failure = QuotaExceeded("free trial: no more jobs", kind="lifetime")
        elif self._full() and self.account.excess == "fails":
            job.failure = QuotaExceeded("too many at once", kind="concurrent")
        elif flaw == "rejected late":
            job.failure = Rejected("line 3 is wrong")
        elif flaw == "crashes":
            job.failure = ProviderError("out of memory")
        if not job.paid:
            self.excesses.append(job)
            heapq.heappush(self._ends, (job.created + LATE_SECONDS, job.job_id))  # it never starts
        else:
            self.used += 1
            if not self._full():
                self._start(job, job.created)
        return job

    def _new(self, key: str, at: float, seconds: float) -> Training:
        job = Training(f"{self.name}-{len(self._all)}", key, at, seconds)
        self._all.append(job)
        self._live[job.job_id] = job
        if not key:
            self.used += 1
        return job

    def _start(self, job: Training, at: float) -> None:
        job.started = at
        heapq.heappush(self._ends, (at + job.seconds, job.job_id))
        self.most_at_once = max(self.most_at_once, self.running())

    def _start_waiting(self, at: float) -> None:
        waiting = (job for job in self._live.values() if job.started is None and job.paid)
        job = None if self._full() else next(waiting, None)
        if job is not None:
            self._start(job, at)

    def running(self) -> int:
        return sum(job.started is not None for job in self._live.values())

    def _full(self) -> bool:
        return self.account.running is not None and self.running() >= self.account.running

    def _spent(self) -> bool:
        return self.account.total is not None and self.used >= self.account.total

    def _is_listed(self, job: Training) -> bool:
        return self._world.now >= job.created + self.account.lag

    def _said(self, job: Training, key: TrainingKey) -> Job:
        status = job.status()
        error = job.failure if status == "failed" else None
        return Job(key, job.job_id, status, f"{self.name}:{job.job_id}" if status == "succeeded" else None, error)


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent: where it may be trained, and what is wrong with its data."""

    name: str
    candidates: tuple[str, ...]
    seconds: float = 600.0
    examples: int = 100
    waits: tuple[float | None, ...] = ()
    refused: tuple[str, ...] = ()
    flaw: Literal["", "rejected", "rejected late", "crashes"] = ""


@dataclass
class World:
    """Accounts and agents. `seconds` is the true time; `wall` what the clock of this machine shows."""

    accounts: Mapping[str, Account]
    agents: Sequence[Agent]
    seed: int = 0
    jumps: Mapping[float, float] = field(default_factory=dict)
    """From when on the clock is wrong by how much."""
    kills: frozenset[int] = frozenset()
    """Numbers of submissions after which the machine is switched off, before anything of them is recorded."""
    first_poll: float = 0.25
    longest_poll: float = 15.0
    poll_seconds: float = 0.5
    """That a list takes."""
    pass_seconds: tuple[float, float] = (3.0, 10.0)
    """That a pass of the engine takes, at least and at most."""

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.seconds = 0.0
        self.flaws: dict[str, str] = {}
        self.durations: dict[str, float] = {}
        self.providers = {name: SimulatedProvider(name, account, self) for name, account in self.accounts.items()}
        self.wishes = tuple(self._wish(agent) for agent in self.agents)
        self.recorded: dict[str, ModelState] = {}
        self.submissions = 0
        self.rounds = 0
        self.passes = 0

    @property
    def now(self) -> float:
        return EPOCH + self.seconds

    @property
    def wall(self) -> float:
        return self.now + sum(jump for at, jump in self.jumps.items() if at <= self.seconds)

    # --- as take_round sees a project

    @property
    def project(self) -> Project:
        return cast(Project, self)

    def settings(self, name: str) -> ProviderSettings:
        account = self.accounts[name]
        if not account.declared:
            return ProviderSettings()
        total = "unlimited" if account.total is None else account.total
        return ProviderSettings(concurrency=account.running, total_jobs=total)

    def provider(self, name: str) -> SimulatedProvider:
        return self.providers[name]

    @property
    def root(self) -> Path:
        return Path("no-such-folder")

    def lock_file(self, agent: str) -> Path:
        return self.root / agent

    def _wish(self, agent: Agent) -> Wish:
        requests = tuple(TrainingRequest(name, "base", "lora", {"agent": agent.name}, "f") for name in agent.candidates)
        for request in requests:
            self.durations[request.key] = agent.seconds
            if agent.flaw:
                self.flaws[request.key] = agent.flaw
        waits = agent.waits or (None,) * len(requests)
        refused = agent.refused or ("",) * len(requests)
        return Wish(cast(Any, SimpleNamespace(name=agent.name)), requests, agent.examples, waits, refused)

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def settle(self) -> None:
        for provider in self.providers.values():
            provider.settle()


class SwitchedOff(Exception):
    """The machine, in the middle of a pass."""


class Up:
    """`gitune up`, as up.py has it."""

    def __init__(self, world: World, *, retry: bool = False) -> None:
        self.world = world
        self.started = world.wall
        self.silent: Mapping[str, Any] = {}
        self.seen: Mapping[str, Job | None] = {}
        self.round = self.look(retry)

    def run(self, most_rounds: int = 4_000) -> Round:
        """Until nothing changes any more, or nobody would tell."""
        while self.world.rounds < most_rounds:
            self.engine_pass()
            self.round = self.look()
            if not self.round.due:
                self.wait(most_rounds)
            if not self.round.due:
                return self.round
        raise AssertionError("it does not end")

    def look(self, retry: bool = False) -> Round:
        world = self.world
        world.rounds += 1
        world.sleep(world.poll_seconds)
        world.settle()
        taken = take_round(
            world.project,
            world.wishes,
            world.recorded,
            world.wall,
            started=self.started,
            retry=retry,
            before=self.silent,
            known=self.seen,
        )
        self.silent, self.seen = taken.silent, taken.seen
        self.looked(taken)
        return taken

    def looked(self, taken: Round) -> None:
        """For who wants to see every round."""

    def wait(self, most_rounds: int) -> None:
        polls = 0
        while not (self.round.due or self.round.settled):
            assert self.world.rounds < most_rounds, "it does not end"
            if self.is_abandoned():
                return
            seconds = next_poll_seconds(polls, first=self.world.first_poll, longest=self.world.longest_poll)
            if self.round.until is not None:
                seconds = max(0.1, min(seconds, self.round.until - self.world.wall))
            self.world.sleep(seconds)
            self.round = self.look()
            polls += 1

    def is_abandoned(self) -> bool:
        """A job runs where nobody answers us any more: up.py ends with an error then."""
        closed = {heard.provider for heard in self.silent.values() if heard.kind in ("closed", "unauthorized")}
        return any(s.status == "running" and s.provider in closed for s in self.round.states.values())

    def engine_pass(self) -> None:
        """One pass of the engine: everything that differs, in no order that one could count on."""
        world = self.world
        world.passes += 1
        due = [
            (agent, target)
            for agent, target in self.round.targets.items()
            if agent not in world.recorded or target.differs(world.recorded[agent])
        ]
        world.random.shuffle(due)
        seconds = world.random.uniform(*world.pass_seconds)
        refused: dict[str, ProviderError] = {}
        taken: Counter[str] = Counter()
        requests = {wish.agent: wish.requests for wish in world.wishes}
        sent = sum(target.submit is not None for _, target in due)
        for agent, target in due:
            written = (
                Target.from_dict(json.loads(json.dumps(target.as_dict()))) if target.submit is not None else target
            )
            state = written.state
            if written.submit is not None:
                world.sleep(seconds / sent)
                state = self.submitted(written, requests[agent][written.submit], refused, taken)
            world.recorded[agent] = ModelState.from_outputs(engine_habits(state.outputs()))
        world.sleep(0.0 if sent else seconds)

    def submitted(
        self, target: Target, request: TrainingRequest, refused: dict[str, ProviderError], taken: Counter[str]
    ) -> ModelState:
        """As resources/model.py has it."""
        world = self.world
        if request.provider in refused:
            return refuse(target, request, refused[request.provider], world.wall, taken=taken[request.provider])
        world.submissions += 1
        try:
            state = submit(target, request, Path(), cast(Any, world.provider))
            taken[request.provider] += 1
        except ProviderError as error:
            if kind_of(error) is not None:
                refused[request.provider] = error
            state = refuse(target, request, error, world.wall, taken=taken[request.provider])
        if world.submissions in world.kills:
            raise SwitchedOff
        return state


def engine_habits(outputs: Mapping[str, Any]) -> Any:
    """What the engine makes of a state: numbers are floats, and None is dropped."""

    def habit(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: habit(item) for name, item in value.items() if item is not None}
        if isinstance(value, list | tuple):
            return [habit(item) for item in value]
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    return habit(json.loads(json.dumps(outputs)))


def run_world(world: World, up: type[Up] = Up) -> Round:
    """`gitune up`, and again after each time that the machine was switched off."""
    while True:
        try:
            return up(world).run()
        except SwitchedOff:
            world.sleep(60.0)


def makespan_ratio(
    agents: int = 500,
    at_once: int = 20,
    *,
    seed: int = 0,
    seconds: tuple[float, float] = (300.0, 900.0),
    longest_poll: float = 15.0,
    declared: bool = True,
    provider: str = "openai",
) -> float:
    """How long `gitune up` takes to train them all, as a multiple of what no order can beat."""
    chance = random.Random(seed)
    durations = [chance.uniform(*seconds) for _ in range(agents)]
    excess: Excess = {"mistral": "fails", "ray": "waits"}.get(provider, "refused")  # type: ignore[assignment]
    account = Account(running=at_once, excess=excess, declared=declared)
    made = [
        Agent(f"agent-{n:05}", (provider,), seconds=duration, examples=int(duration))
        for n, duration in enumerate(durations)
    ]
    world = World({provider: account}, made, seed=seed, longest_poll=longest_poll)
    states = run_world(world).states.values()
    assert Counter(state.status for state in states) == {"succeeded": agents}
    least = max(sum(durations) / at_once, *durations)
    return world.seconds / least
