"""kill -9 at any moment, then `gitune up`: it converges with one training, and nobody edits state."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from gitune.files import read_json
from tests import journey
from tests.conftest import Repository

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return journey.tiny_base_model(tmp_path_factory.mktemp("base-model"))


@dataclass(frozen=True)
class Moment:
    """Who is killed, and when."""

    victim: str
    reached: Callable[[Repository], Any]


def _state(repository: Repository) -> Path:
    return repository.root / ".gitune"


def _engine_lock(repository: Repository) -> bool:
    return any(_state(repository).glob("pulumi/.pulumi/locks/**/*.json"))


def _training_step(repository: Repository, step: int) -> bool:
    status = [read_json(job / "status.json") for job in journey.jobs(repository)]
    return any(s and s["step"] >= step for s in status)


MOMENTS = {
    "cli, as the engine starts": Moment("cli", journey.engine_of),
    "cli, as the job is submitted": Moment("cli", journey.jobs),
    "cli, in training": Moment("cli", lambda r: _training_step(r, 2)),
    "cli, as scores are kept": Moment("cli", lambda r: any(_state(r).glob("scores/*.json"))),
    "cli, as the lock is written": Moment("cli", lambda r: any(_state(r).glob("dev/locks/*/model.lock.yaml"))),
    "engine, as it locks the stack": Moment("engine", _engine_lock),
    "engine, as the dataset is written": Moment("engine", lambda r: any(_state(r).glob("datasets/*/dataset.json"))),
    "engine, as the dataset is published": Moment("engine", lambda r: any(_state(r).glob("store/*/*"))),
    "engine, as the job is submitted": Moment("engine", journey.jobs),
    "engine, as it deploys": Moment(
        "engine", lambda r: any(_state(r).glob("dev/locks/*/model.lock.yaml")) and _engine_lock(r)
    ),
    "training, as it starts": Moment("training", journey.training_of),
    "training, at its first step": Moment("training", lambda r: _training_step(r, 1)),
    "training, half-way": Moment("training", lambda r: _training_step(r, 9)),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_it_converges_after_a_kill(moment: str, repository: Repository, base_model: Path) -> None:
    journey.add_tiny_agent(repository, base_model)
    first = journey.start(repository, "up")
    journey.wait_until(lambda: MOMENTS[moment].reached(repository), moment)
    _kill(MOMENTS[moment].victim, repository, first)
    first.communicate()
    second = journey.call(repository, "up", "--json")
    assert second.code == 0, second.err
    outcome = journey.outcome(second)
    assert (outcome["settled"], outcome["version"]) == (True, "1.0.0")
    (job,) = journey.jobs(repository)
    assert len(journey.events(job, "finished")) == 1
    third = journey.call(repository, "up", "--json")
    assert journey.outcome(third)["changes"] == []
    assert "pending" not in third.err + second.err or "resolved" in second.err


def _kill(victim: str, repository: Repository, cli: Any) -> None:
    if victim == "cli":
        cli.kill()
        return
    find = {"engine": journey.engine_of, "training": journey.training_of}[victim]
    process = find(repository)
    if process is not None:
        process.send_signal(signal.SIGKILL)


def test_nothing_is_left_running_after_an_engine_was_killed(repository: Repository, base_model: Path) -> None:
    journey.add_tiny_agent(repository, base_model)
    first = journey.start(repository, "up")
    journey.wait_until(lambda: journey.jobs(repository), "the job is submitted")
    engine = journey.engine_of(repository)
    assert engine is not None
    family = engine.children(recursive=True)
    engine.kill()
    first.communicate()
    hosts = [p for p in family if p.is_running() and "pulumi.dynamic" in _command(p)]
    _, alive = psutil.wait_procs(hosts, timeout=10)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


def test_ctrl_c_leaves_the_job_running_and_up_goes_on(repository: Repository, base_model: Path) -> None:
    journey.add_tiny_agent(repository, base_model, epochs=25)
    first = journey.start(repository, "up")
    journey.wait_until(lambda: _training_step(repository, 1), "training")
    first.send_signal(signal.SIGINT)
    _, err = first.communicate()
    assert first.returncode == 130
    assert "interrupted: jobs that run go on" in err
    training = journey.training_of(repository)
    assert training is not None
    second = journey.call(repository, "up", "--json")
    assert second.code == 0, second.err
    (job,) = journey.jobs(repository)
    assert len(journey.events(job, "started")) == 1
    assert not training.is_running() or training.status() == psutil.STATUS_ZOMBIE


def test_two_ups_at_once_take_turns(repository: Repository, base_model: Path) -> None:
    journey.add_tiny_agent(repository, base_model)
    first = journey.start(repository, "up", "--json")
    journey.wait_until(lambda: journey.engine_of(repository), "the engine starts")
    time.sleep(0.2)
    second = journey.call(repository, "up", "--json")
    _, err = first.communicate()
    assert (first.returncode, second.code) == (0, 0), err + second.err
    assert "waiting for another gitune up (process " in second.err
    assert journey.outcome(second)["changes"] == []
    (job,) = journey.jobs(repository)
    assert len(journey.events(job, "started")) == 1


def test_a_job_that_crashes_is_reported_and_started_anew_only_when_asked(
    repository: Repository, base_model: Path
) -> None:
    journey.add_tiny_agent(repository, base_model)
    weights = base_model / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    try:
        first = journey.call(repository, "up", "--json")
    finally:
        weights.write_bytes(whole)
    assert first.code == 1
    assert journey.outcome(first)["model"]["status"] == "failed"
    again = journey.call(repository, "up")
    assert again.code == 1
    assert "hint: mend the cause, then run gitune up --retry" in again.out
    third = journey.call(repository, "up", "--retry", "--json")
    assert third.code == 0, third.err
    (job,) = journey.jobs(repository)
    assert len(journey.events(job, "finished")) == 1


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
