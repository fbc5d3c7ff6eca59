"""`gitune up` of five agents is ended at a wire call, the engine and its hosts with it, and then called again.

tests/providers/test_crash_points.py does so without the engine, at more points and on every provider.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
from collections import Counter
from dataclasses import dataclass
from typing import get_args

import psutil
import pytest

from gitune.backend import recorded_deployment
from gitune.project import Project
from tests.conftest import Repository
from tests.crashes import Point, age_notes, open_mistral
from tests.journey import add_hosted_agents, call, start
from tests.servers import mistral
from tests.servers.base import Phase

pytestmark = pytest.mark.slow

WAYS = {"kill -9": signal.SIGKILL, "Ctrl-C": signal.SIGINT}
PHASES = get_args(Phase)
UP = ("up", "-s", "training", "--json")


@dataclass(frozen=True)
class Share:
    """What one test tries: points in the order of calls, up to the first that `up` does not come to."""

    way: str
    points: tuple[Point, ...]

    def __str__(self) -> str:
        return f"{self.way}, {self.points[0].moment}, calls {self.points[0].number} to {self.points[-1].number}"


ALL = [
    Share(way, tuple(Point(number, phase) for number in range(first, first + 10)))
    for way in WAYS
    for phase in PHASES
    for first in range(1, 101, 10)
]
SAMPLE = [Share("kill -9", (Point(12, "acted"),))]
"""Of about sixty calls: a job was accepted, and its answer never read."""


def ended_at(point: Point, sent: signal.Signals, repository: Repository, server: mistral.MistralServer) -> bool:
    """Call `up` and send all of its processes the signal at the point. False: it never got there."""
    process: list[subprocess.Popen[str]] = []
    family: list[psutil.Process] = []
    hit: list[int] = []

    def watch(number: int, phase: Phase) -> bool:
        if number != point.number:
            return False
        if phase in ("received", "acted"):  # looked up before the answer is sent: the client would be faster
            cli = psutil.Process(process[0].pid)
            family[:] = [cli, *cli.children(recursive=True)]
        if phase != point.moment:
            return False
        for each in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(sent)
        hit.append(number)
        return True

    server.watch = watch
    process.append(start(repository, *UP))
    _, err = process[0].communicate(timeout=120)
    server.watch = lambda number, phase: False
    if hit:
        wanted = 130 if sent == signal.SIGINT else -sent
        assert process[0].returncode == wanted, f"{point}: {err}"
        psutil.wait_procs(family, timeout=30)
    else:
        assert process[0].returncode == 0, err
    return bool(hit)


def start_anew(repository: Repository) -> None:
    shutil.rmtree(repository.root / ".gitune")
    for lock in repository.root.glob("agents/*/model.lock.yaml"):
        lock.unlink()


def check_converged(repository: Repository, server: mistral.MistralServer, point: Point) -> None:
    age_notes(repository.root)
    server.clock.advance(300.0)
    second = call(repository, *UP)
    assert second.code == 0, f"{point}: {second.err}"
    assert [agent["settled"] for agent in json.loads(second.out)] == [True] * 5
    keys = [agent["model"]["key"] for agent in json.loads(second.out)]
    paid = Counter(job.facts["suffix"] for job in server.jobs.all.values() if not job.failure)
    assert paid == {key[:16]: 1 for key in keys}, f"{point}: {second.err}"
    uploads = len(server.contents)
    third = call(repository, *UP)
    assert third.code == 0, f"{point}: {third.err}"
    assert [agent["changes"] for agent in json.loads(third.out)] == [[]] * 5, point
    assert (len(server.jobs.all), len(server.contents)) == (5, uploads), point
    assert not recorded_deployment(Project.open("training", repository.root)).get("pending_operations"), point


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "share" in metafunc.fixturenames:
        shares = ALL if metafunc.config.getoption("--all-crashes") else SAMPLE
        metafunc.parametrize("share", shares, ids=str)


@pytest.mark.timeout(0)
def test_one_paid_job_for_each_key_wherever_up_is_ended(
    share: Share, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_hosted_agents(repository, "mistral")
    reached = 0
    for point in share.points:
        with open_mistral(repository.root.parent, monkeypatch) as server:
            if not ended_at(point, WAYS[share.way], repository, server):
                break
            check_converged(repository, server, point)
            reached += 1
        start_anew(repository)
    print(f"{share}: {reached} crash points")
    assert reached or share in ALL, "up makes fewer calls than the sample takes for granted"
