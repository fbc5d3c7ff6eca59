"""`gitune up -s training` where gitune's own script trains elsewhere: a Hugging Face Job, a Ray cluster. For real."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gitune.lock import read_lock
from tests.conftest import Repository, agent_yaml
from tests.journey import call, outcome, tiny_base_model
from tests.servers.huggingface import HuggingFaceServer, run_job
from tests.servers.ray import TOKEN, ray_cluster
from tests.servers.world import EXAMPLES

pytestmark = pytest.mark.slow
TINY = "acme/tiny-llama"
SCRIPT = {"lora_layers": None, "batch_size": 4, "gradient_accumulation": 1, "epochs": 1}


@pytest.fixture(scope="module")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base_model(tmp_path_factory.mktemp("base-model"))


def add_agent(repository: Repository, provider: str, base_model: str, settings: dict[str, Any]) -> None:
    """An agent with this provider as its only candidate, in the training stack; it passes any gate."""
    config = {"gitune:declare": ["models"], "gitune:locks": "agents", "gitune:providers": {provider: settings}}
    (repository.root / "Pulumi.training.yaml").write_text(yaml.safe_dump({"config": config}))
    spec = agent_yaml(
        dataset={"sources": [{"path": "data/train.jsonl", "licence": "CC0-1.0"}], "validation": 0.0},
        training=[{"provider": provider, "base_model": base_model, "hyperparameters": SCRIPT}],
        benchmark={"cases": "benchmark/cases.jsonl", "max_new_tokens": 2, "latency_cases": 1},
        gate={"min_improvement": -1.0, "max_regression": 1.0, "max_latency_seconds": 60},
    )
    repository.add_agent("names", spec, EXAMPLES)


def check(repository: Repository, provider: str, secret: str) -> None:
    """Trained once, locked, talked to, adopted by a second clone, and the key is nowhere."""
    said = [first := call(repository, "up", "-s", "training", "--json")]
    assert first.code == 0, first.err + first.out
    told = outcome(first)
    assert (told["settled"], told["model"]["provider"], told["version"]) == (True, provider, "1.0.0")
    lock = read_lock(repository.root / "agents" / "names" / "model.lock.yaml")
    assert lock is not None
    said.append(answer := call(repository, "chat", "-s", "training", "names", "number 7", "--json"))
    assert (answer.code, json.loads(answer.out)["alias"]) == (0, "names"), answer.err  # it is too small to say much
    for folder in ("pulumi", "submissions", "models", "scores"):  # a second clone has none of these
        shutil.rmtree(repository.root / ".gitune" / folder, ignore_errors=True)
    said.append(adopted := call(repository, "up", "-s", "training", "--json"))
    assert adopted.code == 0, adopted.err
    assert outcome(adopted)["model"]["model_id"] == lock.model_id
    files = [path.read_bytes().decode("utf-8", "replace") for path in repository.root.rglob("*") if path.is_file()]
    assert secret not in "\n".join([*(result.out + result.err for result in said), *files])


@pytest.fixture
def hub(base_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HuggingFaceServer]:
    """A Hub that runs the jobs it takes."""
    with HuggingFaceServer() as server:
        server.add_folder(TINY, base_model)
        for name, value in {
            "HF_TOKEN": server.token,
            "HF_ENDPOINT": server.url,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HOME": str(tmp_path / "hf-home"),
        }.items():
            monkeypatch.setenv(name, value)
        ended = threading.Event()

        def run_jobs() -> None:
            run: set[str] = set()
            while not ended.wait(0.1):
                for job_id in set(server.jobs.all) - run:
                    run.add(job_id)
                    (folder := tmp_path / job_id).mkdir()
                    run_job(server, job_id, folder)

        runner = threading.Thread(target=run_jobs, daemon=True)
        runner.start()
        yield server
        ended.set()
        runner.join()


@pytest.mark.long
def test_a_hugging_face_job_trains_an_agent(repository: Repository, hub: HuggingFaceServer) -> None:
    add_agent(repository, "huggingface", TINY, {"flavor": "cpu-basic", "timeout": "1h"})
    check(repository, "huggingface", hub.token)
    assert len(hub.jobs.all) == 1


@pytest.mark.long
def test_a_ray_cluster_trains_an_agent(
    repository: Repository, base_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ray_cluster(cpus=2) as url:
        for name, value in {"RAY_ADDRESS": url, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}.items():
            monkeypatch.setenv(name, value)
        add_agent(repository, "ray", str(base_model), {"usd_per_hour": 1.2})
        check(repository, "ray", TOKEN)
