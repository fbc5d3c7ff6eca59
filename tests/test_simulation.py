"""Whole lives of worlds with limits, strangers and faults: what holds in every one of them."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gitune.errors import QuotaExceeded
from gitune.round import Round, take_round
from tests.simulation import (
    HOUR,
    NEVER,
    Account,
    Agent,
    SimulatedProvider,
    Up,
    Window,
    World,
    engine_habits,
    makespan_ratio,
    run_world,
)

NAMES = {"mistral": "fails", "openai": "refused", "bedrock": "refused", "ray": "waits", "acme": "fails"}


class WatchedUp(Up):
    """Checks every round."""

    def looked(self, taken: Round) -> None:
        self._nobody_is_overtaken(taken)
        self._the_same_facts_give_the_same_round(taken)

    def _nobody_is_overtaken(self, taken: Round) -> None:
        """Who is sent to a provider has waited at least as long as those who go on waiting there."""
        sent: dict[str, list[tuple[float, int, str]]] = {}
        left: dict[str, list[tuple[float, int, str]]] = {}
        sizes = {wish.agent: wish.examples for wish in self.world.wishes}
        for agent, target in taken.targets.items():
            state = target.state
            if state.status != "queued":
                continue
            place = (state.queued_at or 0.0, -sizes[agent], agent)
            if target.submit is not None:
                sent.setdefault(state.provider, []).append(place)
            elif state.not_before <= self.world.wall:
                left.setdefault(state.provider, []).append(place)
        for provider, places in sent.items():
            assert max(places) < min(left.get(provider, [(math.inf, 0, "")]))

    def _the_same_facts_give_the_same_round(self, taken: Round) -> None:
        """What is recorded of a round, without an answer yet, changes nothing of it."""
        if self.world.rounds % 7 or any(target.submit is not None for target in taken.targets.values()):
            return
        world = self.world
        recorded = {
            agent: type(target.state).from_outputs(engine_habits(target.state.outputs()))
            for agent, target in taken.targets.items()
        }
        again = take_round(
            world.project,
            world.wishes,
            recorded,
            world.wall,
            started=self.started,
            before=taken.silent,
            known=taken.seen,
        )
        changed = {a: (was, again.states[a]) for a, was in taken.states.items() if again.states[a] != was}
        assert not changed
        assert not again.due


def check(world: World, last: Round) -> None:
    """The promises, at the end."""
    for provider in world.providers.values():
        for jobs in provider.jobs.values():
            assert sum(job.paid for job in jobs) <= 1, "paid twice"
        _check_limits(provider)
    abandoned = {heard.provider for heard in last.silent.values()}
    for agent in world.agents:
        state = world.recorded[agent.name]
        target = last.targets[agent.name].state
        if target.status == "succeeded":
            jobs = world.providers[target.provider].jobs[target.key]
            assert target.job_id in [job.job_id for job in jobs if job.ended is not None and job.failure is None]
        elif target.status == "failed":
            _check_reason(world, agent, target.reason)
        else:
            assert abandoned, f"{agent.name} is left {state.status}: {state.reason}"


def _check_limits(provider: SimulatedProvider) -> None:
    account = provider.account
    kinds = Counter(job.failure.kind for job in provider.excesses if isinstance(job.failure, QuotaExceeded))
    # jobs of others come between the question and the submission, and so does a job whose answer was lost
    surprises = provider.arrivals + len(account.lost_answers)
    hours = provider.settled_at / HOUR
    if account.excess == "fails":
        assert kinds["concurrent"] <= (0 if account.declared else 1) + surprises
        # this account counts jobs that crashed; no list tells whether one does
        crashed = any(job.paid and job.failure for jobs in provider.jobs.values() for job in jobs)
        known = account.declared and not crashed
        assert kinds["lifetime"] <= (0 if known else 1 + hours * provider.patient) + surprises


def _check_reason(world: World, agent: Agent, reason: str) -> None:
    """An agent is only given up for what is true."""
    flaws = {"rejected": "line 3", "rejected late": "line 3", "crashes": "out of memory"}
    if agent.flaw and flaws[agent.flaw] in reason:
        return
    assert reason.endswith("no candidate is left")
    for number, name in enumerate(agent.candidates):
        account, provider = world.accounts[name], world.providers[name]
        spent = account.total is not None
        closed = min(account.unauthorized.start, account.retired.start) <= world.seconds
        waited = bool(agent.waits) and agent.waits[number] is not None and "waited for long enough" in reason
        refused = bool(agent.refused and agent.refused[number])
        assert f"{name}: " in reason
        assert spent or closed or waited or refused, (name, reason, provider.used)


windows = st.builds(
    lambda start, length: Window(start, start + length), st.floats(0.0, 4000.0), st.floats(1.0, 2 * HOUR)
)
sometimes = st.one_of(st.just(NEVER), windows)
from_some_moment = st.one_of(st.just(NEVER), st.just(NEVER), st.floats(0.0, 4000.0).map(Window))


@st.composite
def accounts(draw: st.DrawFn, name: str) -> Account:
    return Account(
        running=draw(st.one_of(st.none(), st.integers(1, 8))),
        total=draw(st.one_of(st.none(), st.none(), st.integers(0, 20))),
        excess=NAMES[name],  # type: ignore[arg-type]
        declared=draw(st.booleans()),
        down=draw(sometimes),
        throttled=draw(sometimes),
        retry_after=draw(st.sampled_from([1.0, 90.0, 600.0])),
        unauthorized=draw(from_some_moment),
        retired=draw(from_some_moment),
        lag=draw(st.sampled_from([0.0, 0.0, 30.0, 200.0])),
        lost_answers=draw(st.frozensets(st.integers(1, 20), max_size=3)),
        strangers=draw(st.lists(windows, max_size=5).map(tuple)),
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    names = draw(st.lists(st.sampled_from(sorted(NAMES)), min_size=1, max_size=3, unique=True))
    made = {name: draw(accounts(name)) for name in names}
    agents = [
        replace(draw(_agents(names)), name=f"agent-{number:02}")
        for number in range(draw(st.sampled_from([1, 2, 5, 12, 40])))
    ]
    return World(
        made,
        agents,
        seed=draw(st.integers(0, 1000)),
        jumps=draw(st.dictionaries(st.floats(0.0, 4000.0), st.sampled_from([-600.0, -5.0, 5.0, 600.0]), max_size=2)),
        kills=draw(st.frozensets(st.integers(1, 20), max_size=2)),
        longest_poll=120.0,
    )


@st.composite
def _agents(draw: st.DrawFn, names: list[str]) -> Agent:
    chosen = tuple(draw(st.permutations(names))[: draw(st.integers(1, len(names)))])
    usually = st.sampled_from(["", "", "", "", "", "", "rejected", "rejected late", "crashes"])
    return Agent(
        "",
        chosen,
        seconds=draw(st.sampled_from([60.0, 300.0, 900.0, 5000.0])),
        examples=draw(st.integers(1, 3)),
        waits=tuple(draw(st.sampled_from([None, None, None, 1800.0, 6 * HOUR])) for _ in chosen),
        refused=tuple(draw(st.sampled_from(["", "", "", "", "over budget"])) for _ in chosen),
        flaw=draw(usually),  # type: ignore[arg-type]
    )


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(worlds())
def test_in_every_world_all_promises_hold(world: World) -> None:
    check(world, run_world(world, WatchedUp))


@pytest.mark.slow
@pytest.mark.long
def test_ten_thousand_agents() -> None:
    accounts = {
        "mistral": Account(running=100, total=1000, excess="fails", declared=True),
        "openai": Account(running=500, excess="refused", declared=False, throttled=Window(2000.0, 2600.0)),
    }
    agents = [
        Agent(f"agent-{n:05}", ("mistral", "openai"), seconds=200.0 + (n * 7919) % 400, examples=n % 50)
        for n in range(10_000)
    ]
    world = World(accounts, agents, first_poll=300.0, longest_poll=300.0, pass_seconds=(590.0, 610.0))
    last = run_world(world)
    check(world, last)
    assert Counter(state.status for state in last.states.values()) == {"succeeded": 10_000}
    assert world.providers["openai"].most_at_once <= 500


@pytest.mark.slow
@pytest.mark.parametrize(
    ("provider", "declared"),
    [
        ("mistral", False),
        *(
            pytest.param(*other, marks=pytest.mark.long)
            for other in [("openai", False), ("openai", True), ("mistral", True), ("ray", False)]
        ),
    ],
)
def test_the_makespan_is_close_to_the_best_that_there_is(provider: str, declared: bool) -> None:
    assert makespan_ratio(200, 10, provider=provider, declared=declared) < 1.05
