"""Two clones of one repository work on the same state: they take turns, and a turn that never ends is explained."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gitune.files import write_atomic
from tests import journey
from tests.conftest import Repository
from tests.crashes import open_mistral
from tests.servers import mistral
from tests.servers.base import Phase

pytestmark = pytest.mark.slow

UP = ("up", "-s", "training", "--json")


@pytest.fixture
def backend(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The engine's state, where all clones keep it."""
    folder = repository.root.parent / "backend"
    folder.mkdir()
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{folder}")
    return folder


@pytest.fixture
def server(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Iterator[mistral.MistralServer]:
    with open_mistral(repository.root.parent, monkeypatch) as server:
        yield server


def test_two_clones_at_once_submit_each_job_once(
    repository: Repository, backend: Path, server: mistral.MistralServer
) -> None:
    journey.add_hosted_agents(repository, "mistral")
    clone = Repository(repository.root.parent / "clone")
    shutil.copytree(repository.root, clone.root)
    second_waits = threading.Event()

    def hold(number: int, phase: Phase) -> bool:
        second_waits.wait(timeout=20)  # the first engine is in the middle of its pass
        return False

    server.watch = hold
    first = journey.start(repository, *UP)
    journey.wait_until(lambda: server.requests, "the first call")
    second = journey.start(clone, *UP)
    assert second.stderr is not None
    told = ""
    while "waiting for another engine (" not in told:
        line = second.stderr.readline()
        assert line, told
        told += line
    second_waits.set()
    ends = [process.communicate(timeout=120) for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), ends
    for out, _ in ends:
        assert [agent["settled"] for agent in json.loads(out)] == [True] * 5
    assert len({job.facts["suffix"] for job in server.jobs.all.values()}) == len(server.jobs.all) == 5


def test_a_lock_that_a_dead_runner_left_is_explained_and_can_be_removed(
    repository: Repository, backend: Path, server: mistral.MistralServer
) -> None:
    journey.add_hosted_agents(repository, "mistral", count=1)
    assert journey.call(repository, *UP).code == 0
    yesterday = datetime.now(UTC) - timedelta(days=1)
    facts = {"pid": 4711, "username": "runner", "hostname": "ci-7", "timestamp": f"{yesterday:%Y-%m-%dT%H:%M:%SZ}"}
    lock = backend / ".pulumi/locks/organization/gitune/training/0fe0482d-0000-4000-8000-000000000000.json"
    write_atomic(lock, json.dumps(facts))
    refused = journey.call(repository, *UP)
    assert refused.code == 1
    owner = f"runner@ci-7, process 4711, since {yesterday:%Y-%m-%d %H:%M:%S} UTC"
    assert f"another machine holds the stack's lock ({owner})" in refused.err
    cancel = ("pulumi", "cancel", "--yes", "--stack", "training")
    assert f"gitune {' '.join(cancel)}" in refused.err
    assert lock.exists()
    cancelled = journey.call(repository, *cancel)
    assert cancelled.code == 0, cancelled.err
    again = journey.call(repository, *UP)
    assert again.code == 0, again.err
    assert len(server.jobs.all) == 1
