"""Models are put where they answer before an alias is pointed at them: adapters into vLLM, custom models on Bedrock."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from gitune.deploy import read_routes
from gitune.lock import Lock, write_lock
from gitune.providers.bedrock import BedrockProvider
from tests.conftest import Repository, Result, agent_yaml, case
from tests.providers.test_bedrock import BedrockWorld
from tests.servers.bedrock import BUCKET, REGION, ROLE, BedrockServer
from tests.servers.vllm import VllmServer

CASES = [case(f"c{n}", f"where is parcel {n}", "delivery") for n in range(6)]
LOCK = Lock(
    "support", "1.0.0", "local", "local:aaaaaaaaaaaaaaaa", "smollm2-135m-instruct", "lora", {},
    {"fingerprint": None, "examples": 24}, {}, {"fingerprint": None}, {"outcome": "pass", "gate": None},
)  # fmt: skip
Gitune = Callable[..., Result]


def declare(repository: Repository, provider: str, hosting: dict[str, Any], **more: Any) -> None:
    stack = {"declare": ["deployments"], "hosting": hosting, "smoke_test": {"questions": 1}, **more}
    config = {f"gitune:{name}": value for name, value in stack.items()}
    repository.write("Pulumi.production.yaml", yaml.safe_dump({"config": config}))
    repository.add_agent("support", agent_yaml(training=[{"provider": provider}]), cases=CASES)


def lock(repository: Repository, content: Lock) -> None:
    write_lock(repository.root / "agents" / "support" / "model.lock.yaml", content)


def routed(repository: Repository) -> str:
    return read_routes(repository.root / ".gitune" / "routes.json")["support"].model_id


def adapter(repository: Repository, job: str) -> Path:
    """A model of the provider `local`, as far as vLLM is told of it."""
    folder = repository.root / ".gitune" / "jobs" / job
    (folder / "model").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"base_model": "smollm2-135m-instruct"}))
    (folder / "model" / "training.json").write_text(json.dumps({"base_model": "smollm2-135m-instruct"}))
    (folder / "model" / "adapter_config.json").write_text("{}")
    return folder / "model"


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Iterator[VllmServer]:
    monkeypatch.setenv("VLLM_API_KEY", "planted-vllm-key")
    with VllmServer("planted-vllm-key") as server:
        yield server


@pytest.mark.slow
def test_adapters_are_loaded_into_vllm_before_the_alias_moves(
    repository: Repository, vllm: VllmServer, gitune: Gitune
) -> None:
    declare(repository, "local", {"vllm": {"url": vllm.url, "adapters": "/adapters"}})
    for job in ("a" * 16, "b" * 16):
        adapter(repository, job)
    lock(repository, LOCK)
    first = gitune("up", "-s", "production")
    assert first.code == 0, first.err
    (name,) = vllm.adapters
    assert name.startswith("support-1.0.0-")
    assert vllm.adapters == {name: f"/adapters/jobs/{'a' * 16}/model"}
    assert gitune("up", "-s", "production").code == 0
    loads = [request for request in vllm.requests if request.path == "/v1/load_lora_adapter"]
    assert len(loads) == 1

    vllm.adapters.clear()  # it was restarted
    assert gitune("up", "-s", "production").code == 0
    assert set(vllm.adapters) == {name}

    vllm.may_load = False
    lock(repository, replace(LOCK, version="1.1.0", model_id="local:bbbbbbbbbbbbbbbb"))
    refused = gitune("up", "-s", "production")
    assert refused.code == 1
    assert "loads no adapters at run time" in refused.err
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in refused.err
    assert routed(repository) == "local:aaaaaaaaaaaaaaaa"
    assert "planted-vllm-key" not in refused.err + refused.out + first.err + first.out


@pytest.mark.slow
def test_one_throughput_of_bedrock_moves_from_model_to_model(
    repository: Repository, tmp_path: Path, gitune: Gitune, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gitune.hosting._POLL_SECONDS", 0.01)
    with BedrockServer() as server:
        world = BedrockWorld(server, tmp_path / "world", monkeypatch)
        server.provisions_models = False
        models = [trained(world, number) for number in range(2)]
        block = {"bedrock": {"region": REGION, "role_arn": ROLE, "bucket": BUCKET}}
        declare(repository, "bedrock", {"bedrock": {"model_units": 2}}, providers=block)
        found = replace(LOCK, provider="bedrock", model_id=models[0], base_model="anthropic.claude-3-haiku")
        lock(repository, found)
        first = gitune("up", "-s", "production")
        assert first.code == 0, first.err
        assert "gitune-production-support, which is billed by the hour" in first.err
        assert routed(repository) == models[0]
        assert list(server.throughputs.values()) == ["gitune-production-support"]

        lock(repository, replace(found, version="1.1.0", model_id=models[1]))
        second = gitune("up", "-s", "production")
        assert second.code == 0, second.err
        assert routed(repository) == models[1]
        assert list(server.throughputs.values()) == ["gitune-production-support"]  # the same one, moved
        assert server.violations == []


def trained(world: BedrockWorld, number: int) -> str:
    provider = world.provider()
    assert isinstance(provider, BedrockProvider)
    job = provider.submit_job(world.request(number), world.dataset())
    world.finish(job)
    found = provider.find_job(job.key)
    assert found is not None
    assert found.model_id is not None
    return found.model_id


def test_a_stack_whose_hosting_is_wrong_is_told_with_its_line(repository: Repository, gitune: Gitune) -> None:
    declare(repository, "local", {"vllm": {"url": "vllm:8000"}})
    result = gitune("validate", "-s", "production")
    assert result.code == 1
    assert "Pulumi.production.yaml:" in result.err
    declare(repository, "local", {"bedrock": {"model_unit": 1}})
    assert "did you mean 'model_units'?" in gitune("validate", "-s", "production").err
