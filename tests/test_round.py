"""Rounds: what is asked, decided, recorded, and remembered between them."""

from __future__ import annotations

from dataclasses import replace

from gitune.reconcile import ModelState
from gitune.round import Round, take_round
from tests.simulation import Account, Agent, Up, Window, World, run_world


def agents(count: int, *candidates: str) -> list[Agent]:
    return [Agent(f"agent-{number}", candidates or ("mistral", "openai")) for number in range(count)]


def statuses(world: World) -> list[str]:
    return sorted(state.status for state in world.recorded.values())


def test_each_provider_is_asked_twice_for_all_agents_together() -> None:
    world = World({"mistral": Account(running=2), "openai": Account(excess="refused")}, agents(50))
    take_round(world.project, world.wishes, {}, world.wall)
    assert [provider.lists for provider in world.providers.values()] == [2, 2]


def test_where_all_is_trained_only_our_jobs_are_asked_for() -> None:
    world = World({"mistral": Account(), "openai": Account()}, agents(5))
    last = run_world(world)
    before = {name: provider.lists for name, provider in world.providers.items()}
    again = take_round(world.project, world.wishes, last.states, world.wall)
    assert not again.due
    assert again.settled
    assert [provider.lists - before[name] for name, provider in world.providers.items()] == [1, 0]


def test_two_limits_that_nobody_declared_cost_one_answer_each() -> None:
    mistral = Account(running=2, total=3, declared=False)
    world = World({"mistral": mistral, "openai": Account(excess="refused")}, agents(5))
    last = run_world(world)
    assert [state.status for state in last.states.values()] == ["succeeded"] * 5
    kinds = [job.failure.kind for job in world.providers["mistral"].excesses]  # type: ignore[union-attr]
    assert sorted(kinds) == ["concurrent", "lifetime"]
    assert len(world.providers["openai"].jobs) == 2


def test_a_limit_that_refuses_teaches_how_many_run_not_how_many_were_planned() -> None:
    """The engine sends in no order, and after the first refusal nobody else: each planned another count beside it."""
    world = World({"openai": Account(running=7, excess="refused", declared=False)}, agents(60, "openai"), seed=3)
    run_world(world)
    openai = world.providers["openai"]
    assert (openai.most_at_once, openai.refusals <= 3) == (7, True)
    optimum = 60 / 7 * 600.0
    assert world.seconds < 1.25 * optimum  # nine rows, the last not full


def test_retry_reaches_who_has_to_wait_for_a_slot() -> None:
    world = World({"mistral": Account(running=1)}, [replace(agent, flaw="crashes") for agent in agents(3, "mistral")])
    run_world(world)
    assert statuses(world) == ["failed"] * 3
    assert not take_round(world.project, world.wishes, world.recorded, world.wall).due
    world.flaws.clear()
    Up(world, retry=True).run()
    last = take_round(world.project, world.wishes, world.recorded, world.wall)
    assert [state.status for state in last.states.values()] == ["succeeded"] * 3


def test_a_rejected_dataset_is_sent_once_and_again_with_retry() -> None:
    made = agents(2, "mistral")
    world = World({"mistral": Account()}, [made[0], replace(made[1], flaw="rejected")])
    run_world(world)
    refused = world.providers["mistral"].refusals
    run_world(world)
    assert (refused, world.providers["mistral"].refusals) == (1, 1)
    Up(world, retry=True).run()
    assert world.providers["mistral"].refusals == 2


def test_a_late_failure_that_is_heard_while_waiting_is_heard_once() -> None:
    """The answer was lost, the job turned up, and it was one too many: nothing but what was heard has changed."""
    account = Account(running=1, lost_answers=frozenset({1}), lag=60.0, strangers=(Window(6.0, 500.0),))
    world = World({"mistral": account}, agents(1, "mistral"), seed=1)
    run_world(world)
    assert statuses(world) == ["running"] or statuses(world) == ["succeeded"]
    assert world.rounds < 200


def test_a_candidate_is_waited_for_as_long_as_it_says_though_probes_are_accepted_and_fail() -> None:
    patient = Agent("agent-0", ("mistral", "openai"), waits=(4 * 3600.0, None))
    world = World({"mistral": Account(total=0, declared=False), "openai": Account()}, [patient])
    last = run_world(world)
    assert last.states["agent-0"].provider == "openai"
    assert 4 <= world.seconds / 3600 < 5
    assert len(world.providers["mistral"].excesses) == 4  # at once, and after one, two and three hours


def test_the_jobs_of_a_lagging_list_take_their_slots() -> None:
    world = World({"openai": Account(running=2, excess="refused", lag=250.0)}, agents(6, "openai"))
    run_world(world)
    assert world.providers["openai"].refusals == 0


def test_a_provider_that_is_down_is_asked_less_and_less_often() -> None:
    world = World({"mistral": Account(down=Window(0.0, 7200.0))}, agents(3, "mistral"))
    asked = []

    class Counting(Up):
        def looked(self, taken: object) -> None:
            heard = self.silent.get("mistral")
            if heard is not None:
                asked.append(heard.count)

    run_world(world, Counting)
    assert max(asked) < 40, "two hours at five minutes each"


def test_a_job_that_nobody_can_tell_of_is_not_submitted_again() -> None:
    world = World({"mistral": Account(running=1, down=Window(60.0, 3600.0)), "openai": Account()}, agents(2))
    run_world(world)
    assert all(len(jobs) == 1 for provider in world.providers.values() for jobs in provider.jobs.values())


def test_a_job_that_vanished_is_submitted_again() -> None:
    world = World({"mistral": Account()}, agents(1, "mistral"))
    key = world.wishes[0].keys[0]
    recorded = {"agent-0": ModelState("running", key, "mistral", "base", job_id="gone")}
    taken = take_round(world.project, world.wishes, recorded, world.wall)
    assert taken.targets["agent-0"].submit == 0


def test_a_failed_job_that_nobody_can_tell_of_is_not_paid_for_elsewhere() -> None:
    made = replace(agents(1)[0], flaw="crashes")
    world = World({"mistral": Account(unauthorized=Window(3600.0)), "openai": Account()}, [made])
    run_world(world)
    assert statuses(world) == ["failed"]
    world.sleep(3600.0)
    for _ in range(2):
        run_world(world)
        assert statuses(world) == ["failed"]
        assert "out of memory" in world.recorded["agent-0"].reason
    assert world.providers["openai"].jobs == {}


def test_polls_ask_only_for_what_may_have_changed() -> None:
    asked = []

    class Watching(Up):
        def look(self, retry: bool = False) -> Round:
            taken = super().look(retry)
            if not any(target.submit is not None for target in taken.targets.values()):
                asked.append(world.providers["openai"].asked)
            return taken

    world = World({"openai": Account(running=5, excess="refused")}, agents(40, "openai"))
    run_world(world, Watching)
    assert max(asked) <= 5


def test_a_job_of_another_clone_is_found_before_anything_is_submitted() -> None:
    world = World({"mistral": Account(running=1), "openai": Account()}, agents(2))
    up = Up(world)
    up.engine_pass()
    up.round = up.look()
    waiting = next(wish for wish in world.wishes if up.round.states[wish.agent].status == "queued")
    world.provider("openai").submit_job(waiting.requests[1], world.root)
    up.wait(1000)
    up.run()
    assert all(state.status == "succeeded" for state in up.round.states.values())
    assert up.round.states[waiting.agent].provider == "openai"
