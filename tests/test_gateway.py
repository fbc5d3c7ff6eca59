"""`gitune serve`: aliases as models of an OpenAI-compatible API, asked with OpenAI's own SDK and by many at once."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest
import yaml

pytest.importorskip("uvicorn", reason="the extra 'serve' is not installed")

from gitune.deploy import Entry, Route, read_entries, set_route
from gitune.gateway.routing import choose_route
from gitune.lock import Lock, write_lock
from tests.conftest import Repository, Result, agent_yaml, example, jsonl
from tests.journey import start, wait_until
from tests.servers.base import Request, Response, route
from tests.servers.mistral import KEY, MistralServer

BASE, OLD, NEW = "open-mistral-7b", "ft:open-mistral-7b:1:20260101:aaaaaaaa", "ft:open-mistral-7b:1:20260201:bbbbbbbb"
ROUTES = {name: Route("support", "mistral", model, version) for name, model, version in
          (("old", OLD, "1.0.0"), ("new", NEW, "1.1.0"))}  # fmt: skip
EXPECTED = {
    f"mistral/{OLD}": "the old answer, in several words",
    f"mistral/{NEW}": "the new answer, in several words",
}
HELLO = [{"role": "user", "content": "Where is my parcel?"}]


class Server(MistralServer):
    """Answers are slow where it is told so, and some are errors."""

    def __init__(self) -> None:
        super().__init__()
        self.instead: list[Response] = []

    @route("POST", "/v1/chat/completions")
    def chat(self, request: Request) -> Response:
        return self.instead.pop(0) if self.instead else super().chat(request)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as server:
        monkeypatch.setenv("MISTRAL_API_KEY", KEY)
        monkeypatch.setenv("MISTRAL_BASE_URL", server.url)
        server.known_models = {OLD: BASE, NEW: BASE}
        server.known_training = {
            OLD: jsonl([example("x", "the old answer, in several words")]).encode(),
            NEW: jsonl([example("x", "the new answer, in several words")]).encode(),
        }
        yield server


@pytest.fixture
def project(repository: Repository, server: Server) -> Repository:
    repository.write("Pulumi.production.yaml", yaml.safe_dump({"config": {"gitune:declare": ["deployments"]}}))
    repository.add_agent("support", agent_yaml(training=[{"provider": "mistral"}]))
    return repository


def routes_file(project: Repository) -> Path:
    return project.root / ".gitune" / "routes.json"


@dataclass
class Gateway:
    process: subprocess.Popen[str]
    url: str


@pytest.fixture
def gateway(project: Repository) -> Iterator[Gateway]:
    with serving(project) as found:
        yield found


@contextmanager
def serving(project: Repository) -> Iterator[Gateway]:
    """`gitune serve` on a free port; ended with Ctrl-C."""
    with start(project, "serve", "-s", "production", "--port", "0") as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert said.startswith("serving on http://127.0.0.1:"), said
        url = said.split()[2].rstrip(":")
        try:
            wait_until(lambda: answers(url.removesuffix("/v1") + "/health"), "the gateway answers")
            yield Gateway(process, url)
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(30)
        assert code in (0, 130)


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def client(gateway: Gateway, key: str = "any") -> openai.OpenAI:
    return openai.OpenAI(base_url=gateway.url, api_key=key, max_retries=0)


def ask(gateway: Gateway, alias: str = "support", **more: object) -> httpx.Response:
    body = {"model": alias, "messages": HELLO, **more}
    return httpx.post(f"{gateway.url}/chat/completions", json=body, timeout=30)


def test_the_openai_sdk_talks_to_an_alias(project: Repository, gateway: Gateway, server: Server) -> None:
    assert [model.id for model in client(gateway).models.list()] == []
    set_route(routes_file(project), "support", ROUTES["old"])
    assert [model.id for model in client(gateway).models.list()] == ["support"]

    reply = client(gateway).chat.completions.with_raw_response.create(
        model="support", messages=HELLO, user="ada", seed=7, max_completion_tokens=20
    )
    assert reply.parse().choices[0].message.content == "the old answer, in several words"
    assert reply.headers["x-gitune-model"] == f"mistral/{OLD}"
    assert reply.headers["x-gitune-version"] == "support@1.0.0"
    pieces = client(gateway).chat.completions.create(model="support", messages=HELLO, stream=True)
    told = [piece.choices[0].delta.content or "" for piece in pieces if piece.choices]
    assert len(told) > 1
    assert "".join(told) == "the old answer, in several words"
    assert server.violations == []  # Mistral was sent nothing that it does not know


def test_what_goes_wrong_is_told_as_openai_does(project: Repository, gateway: Gateway, server: Server) -> None:
    set_route(routes_file(project), "support", ROUTES["old"])
    with pytest.raises(openai.NotFoundError, match="no alias 'suport'; did you mean 'support'"):
        client(gateway).chat.completions.create(model="suport", messages=HELLO)
    with pytest.raises(openai.BadRequestError, match="'messages' must be a list"):
        client(gateway).chat.completions.create(model="support", messages=[])
    assert httpx.post(f"{gateway.url}/chat/completions", content=b"{").json()["error"]["message"] == (
        "the body is not JSON"
    )
    server.instead = [Response(429, {"message": "slow down"}, {"Retry-After": "7"})]
    with pytest.raises(openai.RateLimitError) as limited:
        client(gateway).chat.completions.create(model="support", messages=HELLO)
    assert limited.value.response.headers["Retry-After"] == "7"
    half = b'{"model": "support", "messages": [{"role": "user", "content": "\\ud800"}]}'
    assert httpx.post(f"{gateway.url}/chat/completions", content=half).status_code == 400
    server.instead = [Response(302, b"elsewhere", {"Location": "https://example.org"})]
    assert ask(gateway).status_code == 502
    server.instead = [Response(500, {"message": "oops"}), server.error(401, f"wrong key {KEY}")]
    assert (ask(gateway).status_code, "oops") == (502, "oops")
    refused = ask(gateway)
    assert refused.status_code == 502
    assert KEY not in refused.text
    assert refused.json()["error"]["message"] == "the provider refuses the gateway's key"
    routes_file(project).write_text('{"routes": {"support": {"agent": 1}}}')
    assert "not routes of aliases" in ask(gateway).json()["error"]["message"]


def test_a_token_keeps_strangers_out(project: Repository, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITUNE_GATEWAY_TOKEN", "let-me-in")
    set_route(routes_file(project), "support", ROUTES["old"])
    with serving(project) as gateway:
        with pytest.raises(openai.AuthenticationError):
            client(gateway, "wrong").chat.completions.create(model="support", messages=HELLO)
        with pytest.raises(openai.AuthenticationError):
            client(gateway, "wrong").models.list()
        assert client(gateway, "let-me-in").chat.completions.create(model="support", messages=HELLO).choices


@pytest.mark.slow
def test_twenty_switches_under_fifty_clients_drop_nothing(project: Repository, gateway: Gateway) -> None:
    """Each answer is the whole of the old or of the new one, streamed or not, and says which."""
    set_route(routes_file(project), "support", ROUTES["old"])
    with talking(gateway) as seen:
        for turn in range(20):
            set_route(routes_file(project), "support", ROUTES["new" if turn % 2 == 0 else "old"])
            before = sum(seen.values())
            wait_until(lambda before=before: sum(seen.values()) > before + 25, "answers since the switch")
    assert min(seen.values()) > 50
    assert set(seen) == set(EXPECTED)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_rolling_back_and_forward_by_git_drops_nothing(
    project: Repository, gateway: Gateway, gitune: Callable[..., Result], request: pytest.FixtureRequest
) -> None:
    """`gitune rollback`, `gitune up`, and so on: 20 times with --all-crashes."""
    for found in (ROUTES["old"], ROUTES["new"]):
        lock = Lock(
            "support", found.version, "mistral", found.model_id, BASE, "lora", {}, {"fingerprint": None, "examples": 1},
            {}, {"fingerprint": None}, {"outcome": "pass", "gate": None},
        )  # fmt: skip
        write_lock(project.root / "agents" / "support" / "model.lock.yaml", lock)
        for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", f"support {found.version}"]):
            who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
            subprocess.run(["git", *who, *command], cwd=project.root, check=True)
    assert gitune("up", "-s", "production").code == 0
    turns = 20 if request.config.getoption("--all-crashes") else 2
    with talking(gateway) as seen:
        for turn in range(turns):
            version = "1.0.0" if turn % 2 == 0 else "1.1.0"
            back = gitune("rollback", "support", "--to", version, "-s", "production")
            assert back.code == 0, back.err
            deployed = gitune("up", "-s", "production")
            assert deployed.code == 0, deployed.err
            assert httpx.get(gateway.url.removesuffix("/v1") + "/health").json()["aliases"] == {"support": version}
    assert set(seen) == set(EXPECTED)


@contextmanager
def talking(gateway: Gateway) -> Iterator[Counter[str]]:
    """Fifty clients, half of them streaming; how often each model has answered. Each answer is whole and says whose."""
    done, seen, wrong = threading.Event(), Counter[str](), []

    def talk(number: int) -> None:
        with httpx.Client(timeout=60) as http:
            while not done.is_set():
                body = {"model": "support", "messages": HELLO, "stream": number % 2 == 0}
                reply = http.post(f"{gateway.url}/chat/completions", json=body)
                model = reply.headers.get("x-gitune-model", "")
                if reply.status_code != 200 or text_of(reply) != EXPECTED.get(model):
                    wrong.append((reply.status_code, model, reply.text))
                seen[model] += 1

    with ThreadPoolExecutor(50) as clients:
        talks = [clients.submit(talk, number) for number in range(50)]
        try:
            wait_until(lambda: sum(seen.values()) > 100, "the clients are at work")
            yield seen
        finally:
            done.set()
        for one in talks:
            one.result(60)
    assert wrong == []


@pytest.mark.slow
def test_ctrl_c_answers_what_is_in_flight(project: Repository, server: Server) -> None:
    set_route(routes_file(project), "support", ROUTES["old"])
    server.watch = lambda _number, phase: phase == "received" and time.sleep(1.0) is not None
    with serving(project) as gateway, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, gateway)
        wait_until(lambda: server.requests, "the question is under way")
        gateway.process.send_signal(signal.SIGINT)
        assert answer.result(30).status_code == 200


def text_of(reply: httpx.Response) -> str:
    if not reply.headers["content-type"].startswith("text/event-stream"):
        return str(reply.json()["choices"][0]["message"]["content"])
    events = [line[6:] for line in reply.text.splitlines() if line.startswith("data: ") and "[DONE]" not in line]
    return "".join(choice["delta"].get("content") or "" for one in events for choice in json.loads(one)["choices"])


def test_a_canary_has_its_share_and_each_user_one_model() -> None:
    entry = Entry(ROUTES["new"], previous=ROUTES["old"], canary=0.1)
    users = {f"user-{number}": choose_route(entry, f"user-{number}") for number in range(2000)}
    share = sum(found == ROUTES["new"] for found in users.values()) / len(users)
    assert 0.08 < share < 0.12
    assert all(choose_route(entry, user) == found for user, found in users.items())
    drawn = Counter(choose_route(entry, None).version for _ in range(2000))
    assert 0.07 < drawn["1.1.0"] / 2000 < 0.13
    assert choose_route(Entry(ROUTES["new"], previous=ROUTES["old"], untested=True), "ada") == ROUTES["new"]


def test_a_canary_keeps_what_was_there_until_its_share_is_all(tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    newest = Route("support", "mistral", "ft:newest", "1.2.0")
    set_route(path, "support", ROUTES["old"], canary=0.1)
    assert read_entries(path)["support"] == Entry(ROUTES["old"])  # the first has nobody to share with
    set_route(path, "support", ROUTES["new"], canary=0.1)
    set_route(path, "support", newest, canary=0.2)
    assert read_entries(path)["support"] == Entry(newest, previous=ROUTES["old"], canary=0.2)
    set_route(path, "support", newest)
    assert read_entries(path)["support"] == Entry(newest)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.filterwarnings("default")  # torch and transformers deprecate each other's calls
@pytest.mark.long
def test_adapters_of_this_machine_share_one_base_model(repository: Repository) -> None:
    """Two agents answer by turns, streaming too, from one process that loads the base model once."""
    pytest.importorskip("trl", reason="the extra 'local' is not installed")
    from gitune.errors import UserError
    from gitune.training.base_model import DEFAULT_BASE_MODEL, resolve_base_model

    try:
        resolve_base_model(DEFAULT_BASE_MODEL)
    except UserError as error:
        pytest.skip(error.message)
    repository.write("Pulumi.production.yaml", yaml.safe_dump({"config": {"gitune:declare": ["deployments"]}}))
    words = {"fruit": "apple", "metal": "iron"}
    for agent, word in words.items():
        adapter = taught(repository, agent, word, resolve_base_model(DEFAULT_BASE_MODEL))
        set_route(routes_file(repository), agent, Route(agent, "local", adapter, "1.0.0"))
    with serving(repository) as gateway:
        for _ in range(2):
            for agent, word in words.items():
                reply = client(gateway).chat.completions.create(model=agent, messages=HELLO, max_tokens=4)
                assert (reply.choices[0].message.content or "").startswith(word)
                pieces = client(gateway).chat.completions.create(model=agent, messages=HELLO, max_tokens=4, stream=True)
                assert "".join(piece.choices[0].delta.content or "" for piece in pieces).startswith(word)


def taught(repository: Repository, agent: str, word: str, base_model: str) -> str:
    """The ID of a model of the provider `local` that says one word, trained by gitune's own script."""
    from gitune.training import sft

    rows = [{"messages": [*HELLO, {"role": "assistant", "content": word}]}] * 16
    key = agent.encode().hex().ljust(64, "0")
    folder = repository.root / ".gitune" / "jobs" / key[:16]
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text(jsonl(rows), encoding="utf-8")
    settings = {"epochs": 3, "lora_layers": 4, "save_every": 0.9}
    config = {"base_model": base_model, "method": "lora", "hyperparameters": settings, "key": key}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    arguments = ["--config", str(folder / "config.json"), "--train", str(folder / "train.jsonl")]
    assert sft.main([*arguments, "--output", str(folder)]) == 0
    return f"local:{key[:16]}"
