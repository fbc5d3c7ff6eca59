"""`gitune logs` against real servers: what a job said, and following it to its end."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from gitune.project import Project
from gitune.providers.base import Job, TrainingRequest, short
from gitune.testing import Fault
from tests.conftest import Repository, Result
from tests.journey import start, wait_until
from tests.repositories import lock_text
from tests.servers import mistral
from tests.servers.world import write_dataset

HYPERPARAMETERS = {"epochs": 3, "learning_rate": 1e-4}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[mistral.MistralServer]:
    with mistral.MistralServer() as server:
        monkeypatch.setenv("MISTRAL_API_KEY", mistral.KEY)
        monkeypatch.setenv("MISTRAL_BASE_URL", server.url)
        yield server


@pytest.fixture
def job(repository: Repository, server: mistral.MistralServer) -> Job:
    """A job that runs at Mistral, which the lock of the agent `support` names."""
    config = {"gitune:declare": ["models"], "gitune:locks": "agents"}
    repository.write("Pulumi.training.yaml", yaml.safe_dump({"config": config}))
    repository.add_agent("support")
    request = TrainingRequest("mistral", "open-mistral-7b", "lora", HYPERPARAMETERS, "f" * 64)
    provider = Project.open("training").provider("mistral")
    submitted = provider.submit_job(request, write_dataset(repository.root / "dataset"))
    lock(repository, "mistral", submitted.job_id, submitted.key)
    return submitted


def lock(repository: Repository, provider: str, job_id: str, key: str) -> None:
    text = lock_text("1.2.0", provider=provider, job={"id": job_id, "key": key})
    repository.write("agents/support/model.lock.yaml", text)


def test_what_a_job_said_and_whose_it_is(job: Job, gitune: Callable[..., Result]) -> None:
    result = gitune("logs", "support", "-s", "training")
    assert result.code == 0, result.err
    assert [line.split("  ")[1] for line in result.out.splitlines()] == [
        "status-updated: status QUEUED",
        "status-updated: status RUNNING",
    ]
    assert "support has no job in stack training; this is the job of the locked model 1.2.0" in result.err
    lines = [json.loads(line) for line in gitune("logs", "support", "-s", "training", "--json").out.splitlines()]
    assert [set(line) for line in lines] == [{"agent", "provider", "job_id", "text"}] * 2
    assert lines[0]["job_id"] == job.job_id


def test_following_ends_with_the_job_and_says_each_line_once(
    job: Job, server: mistral.MistralServer, gitune: Callable[..., Result]
) -> None:
    server.seconds_per_request = 150.0
    result = gitune("logs", "support", "-s", "training", "--follow")
    assert result.code == 0, result.err
    said = [line.split("  ")[1] for line in result.out.splitlines()]
    assert said[:2] == ["status-updated: status QUEUED", "status-updated: status RUNNING"]
    assert sorted(said[2:]) == ["status-updated: status SUCCESS", "step 10: train_loss 0.5, valid_loss 0.6"]
    assert f"job {job.job_id} on mistral: succeeded" in result.err


def test_following_goes_on_when_the_provider_is_away_for_a_moment(
    job: Job, server: mistral.MistralServer, gitune: Callable[..., Result]
) -> None:
    server.plant(Fault("status", 503, "come back", retry_after=0))
    server.jobs.finish(job.job_id)
    result = gitune("logs", "support", "-s", "training", "-f")
    assert result.code == 0, result.err
    assert "come back" in result.err
    assert "status SUCCESS" in result.out


def test_ctrl_c_leaves_the_log_and_the_job_goes_on(
    job: Job, server: mistral.MistralServer, repository: Repository
) -> None:
    process = start(repository, "logs", "support", "-s", "training", "--follow")
    before = len(server.requests)
    wait_until(lambda: len(server.requests) >= before + 4, "it polls")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    assert "status RUNNING" in out
    assert "Traceback" not in err
    assert server.jobs.state(job.job_id) == "running"


def local_job(repository: Repository, log: bytes) -> Path:
    key = "ab" * 32
    folder = repository.root / ".gitune" / "jobs" / short(key)
    repository.write(f".gitune/jobs/{short(key)}/config.json", json.dumps({"key": key, "base_model": "tiny"}))
    repository.write(f".gitune/jobs/{short(key)}/log.txt", log)
    repository.write(f".gitune/jobs/{short(key)}/lock", "")
    repository.add_agent("support")
    text = lock_text("1.2.0", provider="local", job={"id": short(key), "key": key})
    repository.write(".gitune/dev/locks/support/model.lock.yaml", text)
    return folder


def test_a_local_log_moves_no_cursor(repository: Repository, gitune: Callable[..., Result]) -> None:
    local_job(repository, b"10%\r50%\r100%\n\x1b[31mred\x1b[0m\xff\nlast")
    result = gitune("logs", "support")
    assert result.code == 0, result.err
    assert result.out.splitlines() == ["100%", "·[31mred·[0m\N{REPLACEMENT CHARACTER}", "last"]


def test_of_a_job_that_goes_on_only_whole_lines_are_said(repository: Repository, gitune: Callable[..., Result]) -> None:
    import fcntl

    folder = local_job(repository, b"step 1\nste")
    done: list[Result] = []
    with (folder / "lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # as its process does while it lives
        thread = threading.Thread(target=lambda: done.append(gitune("logs", "support", "-f")))
        thread.start()
        time.sleep(0.6)
        with (folder / "log.txt").open("ab") as log:
            log.write(b"p 2\n")
        time.sleep(1.0)
    thread.join(timeout=20)
    assert [result.out for result in done] == ["step 1\nstep 2\n"]


def test_no_such_agent_and_no_job_yet(repository: Repository, gitune: Callable[..., Result]) -> None:
    repository.add_agent("support")
    unknown = gitune("logs", "suport")
    assert (unknown.code, unknown.out) == (1, "")
    assert unknown.err == "error: no agent 'suport'\nhint: did you mean 'support'?\n"
    early = gitune("logs", "support")
    assert early.code == 1
    assert "support has no job in stack dev" in early.err
    assert "gitune up -s dev" in early.err
