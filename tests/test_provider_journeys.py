"""`gitune up -s training` with one provider as the only candidate: trained, gated, locked, talked to, paid for once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from gitune.lock import read_lock
from tests.conftest import REPOSITORY, Repository, agent_yaml
from tests.journey import call, outcome
from tests.servers import bedrock, mistral, openai
from tests.servers.world import EXAMPLES as NUMBERS

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Hosted:
    """A provider's server, and what a user sets to reach it."""

    provider: str
    open_server: Callable[[], AbstractContextManager[Any]]
    environment: Callable[[Any], dict[str, str]]
    settings: Callable[[Any], dict[str, Any]] = lambda server: {}
    candidate: dict[str, Any] = field(default_factory=dict)
    charged: bool = True


@contextmanager
def open_bedrock() -> Iterator[bedrock.BedrockServer]:
    """With somebody who gives each new model a provisioned throughput."""
    with bedrock.BedrockServer() as server:
        server.provisions_models = True
        yield server


HOSTED = [
    Hosted(
        "mistral",
        mistral.MistralServer,
        lambda server: {"MISTRAL_API_KEY": mistral.KEY, "MISTRAL_BASE_URL": server.url},
    ),
    Hosted(
        "openai",
        openai.OpenAIServer,
        lambda server: {"OPENAI_API_KEY": openai.KEY},
        settings=lambda server: {"base_url": server.url},
    ),
    Hosted(
        "bedrock",
        open_bedrock,
        lambda server: {
            "AWS_ACCESS_KEY_ID": bedrock.KEY_ID,
            "AWS_SECRET_ACCESS_KEY": bedrock.SECRET,
            "AWS_ENDPOINT_URL": server.url,
            "AWS_ENDPOINT_URL_S3": f"{server.url}/s3",
            "AWS_EC2_METADATA_DISABLED": "true",
        },
        settings=lambda server: {"region": bedrock.REGION, "role_arn": bedrock.ROLE, "bucket": bedrock.BUCKET},
        charged=False,  # Bedrock's API tells no cost
    ),
]


SECRET_WORDS = ("KEY", "TOKEN", "SECRET")
PHRASES = ("number {}", "the number {}", "{} as a word", "please name {}")
EXAMPLES = [
    {**row, "messages": [row["messages"][0], {"role": "user", "content": phrase.format(number)}, row["messages"][2]]}
    for number, row in enumerate(NUMBERS)
    for phrase in PHRASES
]


@pytest.fixture(
    params=[
        pytest.param(hosted, marks=[pytest.mark.long] if hosted.provider != "mistral" else []) for hosted in HOSTED
    ],
    ids=lambda hosted: hosted.provider,
)
def hosted(request: pytest.FixtureRequest) -> Hosted:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def server(hosted: Hosted, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with hosted.open_server() as server:
        server.seconds_per_request = 120.0  # a job takes 600
        for name, value in hosted.environment(server).items():
            monkeypatch.setenv(name, value)
        yield server
        assert server.violations == []


@pytest.fixture
def agent(repository: Repository, hosted: Hosted, server: Any) -> Repository:
    """An agent that names numbers, with this provider as its only candidate, in the training stack."""
    config = {
        "gitune:declare": ["models"],
        "gitune:locks": "agents",
        "gitune:providers": {hosted.provider: hosted.settings(server)},
    }
    (repository.root / "Pulumi.training.yaml").write_text(yaml.safe_dump({"config": config}))
    cases = [
        {"id": f"c{number}", "messages": [row["messages"][0], {"role": "user", "content": f"say number {number}"}]}
        | {"target": row["messages"][2]["content"]}
        for number, row in enumerate(NUMBERS)
    ]
    spec = agent_yaml(
        alias="numbers",
        dataset={"sources": [{"path": "data/train.jsonl", "licence": "CC0-1.0"}], "validation": 0.0},
        training=[{"provider": hosted.provider, **hosted.candidate}],
        gate={"min_improvement": 0.5, "min_cases": 10, "max_latency_seconds": 5},
    )
    repository.add_agent("names", spec, EXAMPLES, cases)
    return repository


def test_one_agent_end_to_end(agent: Repository, hosted: Hosted, server: Any) -> None:
    planned = call(agent, "plan", "-s", "training")
    assert planned.code == 0, planned.err
    assert server.jobs.all == {}
    said = [planned]

    said.append(first := call(agent, "up", "-s", "training", "--json"))
    assert first.code == 0, first.err
    told = outcome(first)
    assert (told["settled"], told["verdict"], told["version"]) == (True, "pass", "1.0.0")
    assert told["model"]["provider"] == hosted.provider
    lock = read_lock(agent.root / "agents" / "names" / "model.lock.yaml")
    assert lock is not None
    assert (lock.model_id, lock.benchmark["base_accuracy"]) == (told["model"]["model_id"], 0.0)
    assert lock.benchmark["accuracy"] == 1.0
    script = [sys.executable, REPOSITORY / "scripts" / "recount.py", "agents/names/model.lock.yaml"]
    assert subprocess.run(script, cwd=agent.root, check=False).returncode == 0  # inspect's logs say the same
    if hosted.charged:
        assert lock.job["cost_usd"] > 0
        assert lock.job["estimated_usd"] is not None

    said.append(answer := call(agent, "chat", "-s", "training", "numbers", "number 7"))
    assert (answer.code, answer.out.strip()) == (0, "seven"), answer.err

    uploads = len(server.contents)
    said.append(again := call(agent, "up", "-s", "training"))
    assert (again.code, len(server.jobs.all), len(server.contents)) == (0, 1, uploads)

    shutil.rmtree(agent.root / ".gitune")  # state, submissions and scores are lost: a second clone
    said.append(adopted := call(agent, "up", "-s", "training", "--json"))
    assert adopted.code == 0, adopted.err
    assert outcome(adopted)["model"]["model_id"] == lock.model_id
    assert (len(server.jobs.all), len(server.contents)) == (1, uploads)

    told_by_gitune = "\n".join([*(result.out + result.err for result in said), *_files(agent.root)])
    for name, secret in hosted.environment(server).items():
        if any(word in name for word in SECRET_WORDS):
            assert secret not in told_by_gitune, f"{name} was written or printed"


def test_a_wrong_key_is_said_and_nothing_is_started(
    agent: Repository, hosted: Hosted, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in hosted.environment(server):
        if any(word in name for word in SECRET_WORDS):
            monkeypatch.setenv(name, "wrong-key-0123456789")
    result = call(agent, "up", "-s", "training")
    assert result.code == 1
    assert f"{hosted.provider}: " in result.out
    assert "no candidate is left" in result.out
    assert "wrong-key-0123456789" not in "\n".join([result.out, result.err, *_files(agent.root)])
    assert server.jobs.all == {}


def _files(root: Path) -> Iterator[str]:
    for path in root.rglob("*"):
        if path.is_file():
            yield path.read_bytes().decode("utf-8", "replace")


def test_a_retired_training_api_says_what_to_do(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    with mistral.MistralServer() as server:
        server.retired = True
        monkeypatch.setenv("MISTRAL_API_KEY", mistral.KEY)
        monkeypatch.setenv("MISTRAL_BASE_URL", server.url)
        config = {"config": {"gitune:declare": ["models"]}}
        (repository.root / "Pulumi.training.yaml").write_text(json.dumps(config))
        repository.add_agent("qa", agent_yaml(training=[{"provider": "mistral"}]))
        result = call(repository, "up", "-s", "training")
    assert result.code == 1
    assert "Mistral's training API is retired since July 2026 (410" in result.out
    assert "list another candidate in training:, or take over an existing model with gitune adopt" in result.out


def test_adopting_the_status_reports_model(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    model = "ft:open-mistral-7b:5010731d:20251031:ecc3829c"
    with mistral.MistralServer() as server:
        server.known_models[model] = "open-mistral-7b"
        monkeypatch.setenv("MISTRAL_API_KEY", mistral.KEY)
        monkeypatch.setenv("MISTRAL_BASE_URL", server.url)
        (repository.root / "Pulumi.training.yaml").write_text(json.dumps({"config": {"gitune:declare": ["models"]}}))
        repository.add_agent("qa")
        adopt = ("adopt", "qa", "--provider", "mistral", "--job", "ecc3829c-234a", "--examples", "5000")
        missing = call(repository, *adopt, "--model", f"{model}0")
        assert missing.code == 1
        assert "mistral has no model" in missing.err
        assert not (repository.root / "agents" / "qa" / "model.lock.yaml").exists()
        first = call(repository, *adopt, "--model", model)
        assert (first.code, "qa 1.0.0" in first.out) == (0, True), first.err
        assert "nothing to do" in call(repository, *adopt, "--model", model).out
        answer = call(repository, "chat", "-s", "training", "qa", "hello")
        assert answer.code == 0, answer.err
        server.archived.add(model)
        (repository.root / "agents" / "qa" / "model.lock.yaml").unlink()
        assert "is archived at mistral" in call(repository, *adopt, "--model", model).err
    lock = yaml.safe_load((Path(__file__).parent.parent / "agents" / "qa" / "model.lock.yaml").read_text())
    assert (lock["model_id"], lock["verdict"]["outcome"]) == (model, "adopted")
