"""kill -9 at any moment, then `gitune up`: it converges with one training, and nobody edits state."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from gitune.backend import recorded_deployment
from gitune.files import read_json
from gitune.project import Project
from tests import journey
from tests.conftest import Repository, Result
from tests.crashes import age_notes, open_mistral
from tests.servers import mistral

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return journey.tiny_base_model(tmp_path_factory.mktemp("base-model"))


@pytest.fixture
def server(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Iterator[mistral.MistralServer]:
    """Where the one agent of the stack `training` is trained and deployed: no training here takes time."""
    journey.add_hosted_agents(repository, "mistral", count=1, declare=("models", "deployments"))
    with open_mistral(repository.root.parent, monkeypatch) as server:
        yield server


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


def _locked(repository: Repository) -> bool:
    return any(repository.root.glob("agents/*/model.lock.yaml"))


HOSTED = {
    "cli, as the engine starts": Moment("cli", journey.engine_of),
    "cli, as scores are kept": Moment("cli", lambda r: any(_state(r).glob("scores/*.json"))),
    "cli, as the passport is written": Moment("cli", lambda r: any(r.root.glob("agents/*/passports/*.json"))),
    "cli, as the lock is written": Moment("cli", _locked),
    "engine, as it locks the stack": Moment("engine", _engine_lock),
    "engine, as the dataset is written": Moment("engine", lambda r: any(_state(r).glob("datasets/*/dataset.json"))),
    "engine, as the dataset is published": Moment("engine", lambda r: any(_state(r).glob("store/*/*"))),
    "engine, as it deploys": Moment("engine", lambda r: _locked(r) and _engine_lock(r)),
}
"""Moments between wire calls; those at a wire call are in test_up_crashes.py."""
UP = ("up", "-s", "training", "--json")
TRAIN = ("--stop-after", "training")


LONG = {
    "engine, as it deploys",
    "cli, as the engine starts",
    "engine, as the dataset is published",
    "cli, as scores are kept",
    "cli, as the passport is written",
    "engine, as it locks the stack",
    "engine, as the dataset is written",
}


@pytest.mark.parametrize(
    "moment", [pytest.param(name, marks=[pytest.mark.long] if name in LONG else []) for name in HOSTED]
)
def test_it_converges_after_a_kill(moment: str, repository: Repository, server: mistral.MistralServer) -> None:
    first = journey.start(repository, *UP)
    _kill(HOSTED[moment], moment, repository, first)
    age_notes(repository.root)
    second = journey.call(repository, *UP)
    assert second.code == 0, second.err
    outcome = journey.outcome(second)
    assert (outcome["settled"], outcome["deployed"], outcome["version"]) == (True, True, "1.0.0")
    assert len(server.jobs.all) == 1
    assert not recorded_deployment(Project.open("training", repository.root)).get("pending_operations")


@pytest.mark.long
def test_a_training_goes_on_when_the_engine_that_started_it_is_killed(repository: Repository, base_model: Path) -> None:
    journey.add_tiny_agent(repository, base_model)
    first = journey.start(repository, "up")
    _kill(Moment("engine", journey.jobs), "the job is submitted", repository, first)
    second = journey.call(repository, "up", "--json")
    assert second.code == 0, second.err
    assert journey.outcome(second)["version"] == "1.0.0"
    (job,) = journey.jobs(repository)
    assert (len(journey.events(job, "started")), len(journey.events(job, "finished"))) == (1, 1)


@pytest.mark.long
def test_a_training_that_is_killed_twice_goes_on_within_the_same_up(repository: Repository, base_model: Path) -> None:
    journey.add_tiny_agent(repository, base_model)
    first = journey.start(repository, "up", "--json")
    journey.wait_until(lambda: journey.training_of(repository), "training starts").kill()
    journey.wait_until(lambda: _training_step(repository, 9), "training is half-way")
    half_way = journey.training_of(repository)
    assert half_way is not None
    half_way.kill()
    out, err = first.communicate()
    assert first.returncode == 0, err
    assert journey.outcome(Result(0, out, err))["version"] == "1.0.0"
    (job,) = journey.jobs(repository)
    assert (len(journey.events(job, "resumed")), len(journey.events(job, "finished"))) == (1, 1)


def _kill(moment: Moment, name: str, repository: Repository, cli: subprocess.Popen[str]) -> None:
    """Whom the moment names, when it has come; then the command line is waited for."""
    journey.wait_until(lambda: moment.reached(repository), name)
    process = psutil.Process(cli.pid) if moment.victim == "cli" else journey.engine_of(repository)
    if process is not None:
        process.send_signal(signal.SIGKILL)
    cli.communicate()


def test_nothing_is_left_running_after_an_engine_was_killed(
    repository: Repository, server: mistral.MistralServer
) -> None:
    first = journey.start(repository, *UP)
    journey.wait_until(lambda: server.contents, "the first upload")
    engine = journey.engine_of(repository)
    assert engine is not None
    family = engine.children(recursive=True)
    engine.kill()
    first.communicate()
    hosts = [p for p in family if p.is_running() and "pulumi.dynamic" in _command(p)]
    _, alive = psutil.wait_procs(hosts, timeout=10)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.long  # test_interrupts.py presses Ctrl-C in each stage
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


def test_two_ups_at_once_take_turns(repository: Repository, server: mistral.MistralServer) -> None:
    first = journey.start(repository, *UP, *TRAIN)
    journey.wait_until(lambda: journey.engine_of(repository), "the engine starts")
    second = journey.call(repository, *UP, *TRAIN)
    _, err = first.communicate()
    assert (first.returncode, second.code) == (0, 0), err + second.err
    assert "waiting for another gitune up (process " in second.err
    assert journey.outcome(second)["changes"] == []
    assert len(server.jobs.all) == 1


def test_a_job_that_crashes_is_reported_and_started_anew_only_when_asked(
    repository: Repository, server: mistral.MistralServer
) -> None:
    server.jobs.fail_next.append("internal error")
    first = journey.call(repository, *UP)
    assert first.code == 1
    assert journey.outcome(first)["model"]["status"] == "failed"
    again = journey.call(repository, "up", "-s", "training")
    assert again.code == 1
    assert "hint: mend the cause, then run gitune up" in again.out
    assert len(server.jobs.all) == 1
    third = journey.call(repository, *UP, "--retry", *TRAIN)
    assert third.code == 0, third.err
    assert len(server.jobs.all) == 2


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
