"""After each change of an alias its new model is asked; what fails is taken back, and stays back."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from gitune.deploy import read_entries, read_refusals
from gitune.lock import Lock, write_lock
from tests.conftest import Repository, Result, agent_yaml, case, example, jsonl
from tests.journey import call, engine_of, start, wait_until
from tests.servers.base import Request, Response, route
from tests.servers.mistral import KEY, MistralServer

BASE, OLD, NEW = "open-mistral-7b", "ft:open-mistral-7b:1:20260101:aaaaaaaa", "ft:open-mistral-7b:1:20260201:bbbbbbbb"
CASES = [case(f"c{n}", f"where is parcel {n}", "delivery") for n in range(6)]
LOCK = Lock(
    "support", "1.0.0", "mistral", OLD, BASE, "lora", {}, {"fingerprint": None, "examples": 24}, {},
    {"fingerprint": None}, {"outcome": "pass", "gate": None},
)  # fmt: skip
Gitune = Callable[..., Result]


class Server(MistralServer):
    """A model in `dumb` answers nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.dumb: set[str] = set()
        self.asked: list[str] = []

    @route("POST", "/v1/chat/completions")
    def chat(self, request: Request) -> Response:
        self.asked.append(request.json["model"])
        whole = super().chat(request)
        if request.json["model"] in self.dumb:
            whole.body["choices"][0]["message"]["content"] = "  "  # type: ignore[index, call-overload]
        return whole


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as server:
        monkeypatch.setenv("MISTRAL_API_KEY", KEY)
        monkeypatch.setenv("MISTRAL_BASE_URL", server.url)
        server.known_models = {OLD: BASE, NEW: BASE}
        server.known_training = {model: jsonl([example("x", "delivery")]).encode() for model in (OLD, NEW)}
        yield server


@pytest.fixture
def project(repository: Repository, server: Server) -> Repository:
    stack = {"gitune:declare": ["deployments"], "gitune:smoke_test": {"questions": 2, "max_seconds": 20}}
    repository.write("Pulumi.production.yaml", yaml.safe_dump({"config": stack}))
    repository.add_agent("support", agent_yaml(training=[{"provider": "mistral"}]), cases=CASES)
    lock(repository, LOCK)
    return repository


def lock(project: Repository, content: Lock) -> None:
    write_lock(project.root / "agents" / "support" / "model.lock.yaml", content)


def up(gitune: Gitune, *more: str, code: int = 0) -> dict[str, Any]:
    result = gitune("up", "-s", "production", "--json", *more)
    assert result.code == code, result.err
    (agent,) = json.loads(result.out)
    return agent  # type: ignore[no-any-return]


def routes_file(project: Repository) -> Path:
    return project.root / ".gitune" / "routes.json"


@pytest.mark.slow
def test_a_model_that_fails_is_taken_back_and_stays_back(project: Repository, server: Server, gitune: Gitune) -> None:
    assert up(gitune)["deployed"]
    assert server.asked == [OLD, OLD]
    assert up(gitune)["settled"]
    assert len(server.asked) == 2  # nothing is new

    server.dumb = {NEW}
    lock(project, replace(LOCK, version="1.1.0", model_id=NEW))
    failed = up(gitune, code=1)
    assert not failed["settled"]
    assert failed["taken_back"] == {"model_id": NEW, "version": "1.1.0", "reason": "case c0 has an empty answer"}
    assert read_entries(routes_file(project))["support"].route.model_id == OLD
    asked = len(server.asked)
    told = gitune("up", "-s", "production")
    assert told.code == 1
    assert "1.1.0 failed its smoke test and was taken back: case c0 has an empty answer" in told.out
    assert len(server.asked) == asked  # and is not tried again by itself

    server.dumb = set()
    assert up(gitune, "--retry")["settled"]
    entry = read_entries(routes_file(project))["support"]
    assert (entry.route.model_id, entry.previous, entry.untested) == (NEW, None, False)
    assert read_refusals(routes_file(project)) == {}


@pytest.mark.slow
def test_the_lock_of_before_settles_what_was_taken_back(project: Repository, server: Server, gitune: Gitune) -> None:
    up(gitune)
    server.dumb = {NEW}
    lock(project, replace(LOCK, version="1.1.0", model_id=NEW))
    up(gitune, code=1)
    lock(project, LOCK)
    back = up(gitune)
    assert back["settled"]
    assert back["taken_back"] is None


@pytest.mark.slow
def test_the_first_model_that_fails_serves_nobody(project: Repository, server: Server, gitune: Gitune) -> None:
    server.dumb = {OLD}
    assert not up(gitune, code=1)["deployed"]
    assert read_entries(routes_file(project)) == {}
    asked = len(server.asked)
    up(gitune, code=1)
    assert len(server.asked) == asked


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    [
        *(pytest.param(earlier, marks=pytest.mark.long) for earlier in ("the engine starts", "the route is changed")),
        "the model is asked",
    ],
)
def test_a_deploy_that_is_killed_is_finished_by_the_next(
    project: Repository, server: Server, gitune: Gitune, moment: str
) -> None:
    up(gitune)
    lock(project, replace(LOCK, version="1.1.0", model_id=NEW))
    process = start(project, "up", "-s", "production", "--json")
    happened = {
        "the engine starts": lambda: engine_of(project),
        "the route is changed": lambda: read_entries(routes_file(project))["support"].route.model_id == NEW,
        "the model is asked": lambda: NEW in server.asked,
    }
    wait_until(happened[moment], moment)
    process.kill()
    process.communicate()
    result = call(project, "up", "-s", "production", "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)[0]["settled"]
    entry = read_entries(routes_file(project))["support"]
    assert (entry.route.model_id, entry.untested) == (NEW, False)
    assert NEW in server.asked


@pytest.mark.slow
def test_each_stack_works_while_the_other_is_broken(project: Repository, server: Server, gitune: Gitune) -> None:
    project.write("Pulumi.training.yaml", yaml.safe_dump({"config": {"gitune:declare": ["models"]}}))
    data = project.root / "agents" / "support" / "data" / "train.jsonl"
    kept = data.read_text()
    data.write_text("not JSON\n")
    assert up(gitune)["settled"]  # what is locked is deployed, whatever the data of the next training
    assert gitune("plan", "-s", "training").code == 1

    data.write_text(kept)
    routes_file(project).write_text('{"routes": {"support": {"agent": 1}}}')
    planned = gitune("plan", "-s", "training")
    assert planned.code == 0, planned.err
    assert "not routes of aliases" in gitune("up", "-s", "production").err


@pytest.mark.slow
def test_the_gateway_is_asked_as_a_client_whom_the_canary_gives_the_new_model(
    project: Repository, server: Server, gitune: Gitune
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    smoke = {"questions": 2, "max_seconds": 20, "gateway": f"http://127.0.0.1:{port}/v1"}
    stack = {"gitune:declare": ["deployments"], "gitune:canary": 0.05, "gitune:smoke_test": smoke}
    project.write("Pulumi.production.yaml", yaml.safe_dump({"config": stack}))
    with start(project, "serve", "-s", "production", "--port", str(port)) as gateway:
        try:
            assert gateway.stderr is not None
            assert gateway.stderr.readline().startswith("serving on")
            assert up(gitune)["settled"]
            lock(project, replace(LOCK, version="1.1.0", model_id=NEW))
            assert up(gitune)["settled"]
            assert server.asked == [OLD, OLD, NEW, NEW]
            entry = read_entries(routes_file(project))["support"]
            assert (entry.route.model_id, entry.canary, entry.untested) == (NEW, 0.05, False)
            assert entry.previous is not None
            assert entry.previous.model_id == OLD
        finally:
            gateway.send_signal(signal.SIGINT)
            gateway.wait(30)
