"""A poll through the real SDK takes as many requests for many agents as for few."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from gitune.reconcile import ModelState, submit
from gitune.round import Round, take_round
from tests.providers.test_mistral import MistralWorld
from tests.servers.jobs import Limits
from tests.servers.mistral import KEY, MistralServer
from tests.servers.world import HttpWorld
from tests.simulation import Account, Agent, World


@pytest.fixture
def http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpWorld]:
    with MistralServer(Limits(running=5)) as server:
        yield MistralWorld(server, tmp_path, monkeypatch, {"MISTRAL_API_KEY": KEY, "MISTRAL_BASE_URL": server.url})


@pytest.mark.parametrize("agents", [10, 60])
def test_a_poll_takes_as_many_requests_for_many_agents_as_for_few(http: HttpWorld, agents: int) -> None:
    account = Account(running=5)
    world = World({"mistral": account}, [Agent(f"agent-{n}", ("mistral",)) for n in range(agents)])
    provider = http.provider()
    world.providers["mistral"] = cast(Any, provider)
    world.wishes = tuple(_at(wish, http) for wish in world.wishes)
    taken = take_round(world.project, world.wishes, {}, world.wall)
    recorded = _passed(taken, world, http)
    taken = take_round(world.project, world.wishes, recorded, world.wall, known=taken.seen)
    before = http.calls()
    taken = take_round(world.project, world.wishes, recorded, world.wall, known=taken.seen)
    assert not taken.due
    assert http.calls() - before == 2  # our jobs, and those of the account


def _at(wish: Any, http: HttpWorld) -> Any:
    number = int(wish.agent.rpartition("-")[2])
    return replace(wish, requests=(http.request(number),))


def _passed(taken: Round, world: World, http: HttpWorld) -> dict[str, ModelState]:
    recorded = {}
    for wish in world.wishes:
        target = taken.targets[wish.agent]
        state = target.state
        if target.submit is not None:
            state = submit(target, wish.requests[0], http.dataset(), cast(Any, world.provider))
        recorded[wish.agent] = state
    return recorded
