"""The engine's state in a bucket: real engine, real S3 protocol, and two writers at once."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import boto3
import pytest

from gitune.state import resource_outputs
from tests import journey, s3
from tests.conftest import Repository, example, jsonl
from tests.crashes import open_mistral
from tests.servers import mistral
from tests.servers.base import Phase

pytestmark = pytest.mark.slow

UP = ("up", "-s", "training", "--json", "--stop-after", "training")
FOLDER = "gitune/.pulumi"
LOCKS = f"{FOLDER}/locks/organization/gitune/training"


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """State in a bucket, below a folder."""
    with s3.served() as url:
        address = f"s3://{s3.BUCKET}/gitune?endpoint={url}&use_path_style=true"
        monkeypatch.setenv("PULUMI_BACKEND_URL", address)
        yield address


@pytest.fixture
def server(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Iterator[mistral.MistralServer]:
    with open_mistral(repository.root.parent, monkeypatch) as server:
        yield server


def test_two_writers_of_one_bucket_take_turns_and_submit_each_job_once(
    repository: Repository, backend: str, server: mistral.MistralServer
) -> None:
    journey.add_hosted_agents(repository, "mistral", count=2)
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
        assert [agent["model"]["status"] for agent in json.loads(out)] == ["succeeded"] * 2
    assert len(server.jobs.all) == 2
    state = json.loads(_read(f"{FOLDER}/stacks/gitune/training.json"))["checkpoint"]["latest"]
    assert resource_outputs(state, "FineTunedModel").keys() == {"agent-0", "agent-1"}
    assert not state.get("pending_operations")
    assert _names(LOCKS) == []

    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    facts = {"pid": ended.pid, "username": "ada", "hostname": socket.gethostname(), "timestamp": "2026-11-23T12:00:00Z"}
    boto3.client("s3").put_object(Bucket=s3.BUCKET, Key=f"{LOCKS}/0fe0482d.json", Body=json.dumps(facts))
    server.jobs.all.clear()  # so that a new job would be submitted
    (repository.root / "agents/agent-0/data/train.jsonl").write_text(
        jsonl([example(f"another {number}", f"intent_{number % 3}") for number in range(12)])
    )
    refused = journey.call(repository, *UP)
    assert refused.code == 1
    owner = f"ada@{socket.gethostname()}, process {ended.pid}, since 2026-11-23 12:00:00 UTC"
    assert f"error: an engine was killed and left the stack's lock ({owner})" in refused.err
    assert "hint: run: gitune pulumi cancel --yes --stack training, then gitune up again" in refused.err
    assert not server.jobs.all
    cancelled = journey.call(repository, "pulumi", "cancel", "--yes", "--stack", "training")
    assert cancelled.code == 0, cancelled.err
    assert _names(LOCKS) == []


def _names(folder: str) -> list[str]:
    found = boto3.client("s3").list_objects_v2(Bucket=s3.BUCKET, Prefix=f"{folder}/")
    return [entry["Key"] for entry in found.get("Contents", ())]


def _read(name: str) -> bytes:
    body: bytes = boto3.client("s3").get_object(Bucket=s3.BUCKET, Key=name)["Body"].read()
    return body
