"""Two clones of one repository work on the same state: they take turns, and a turn that never ends is explained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gitune.files import write_atomic
from tests import journey
from tests.conftest import Repository
from tests.crashes import open_mistral
from tests.servers import mistral

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


@pytest.mark.long  # test_backends.py has two writers of a bucket
def test_two_clones_at_once_submit_each_job_once(
    repository: Repository, backend: Path, server: mistral.MistralServer
) -> None:
    journey.add_hosted_agents(repository, "mistral")
    ends = journey.two_at_once(repository, server, *UP)
    assert [end.code for end in ends] == [0, 0], ends
    for end in ends:
        assert [agent["settled"] for agent in json.loads(end.out)] == [True] * 5
    assert len({job.facts["suffix"] for job in server.jobs.all.values()}) == len(server.jobs.all) == 5


@pytest.mark.long
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
