"""The engine's state in a bucket: real engine, real S3 protocol, and two writers at once."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from unittest.mock import ANY

import boto3
import pytest

from gitune.state import resource_outputs
from tests import journey, s3
from tests.conftest import Repository, example, jsonl
from tests.crashes import open_mistral
from tests.servers import mistral

pytestmark = pytest.mark.slow

UP = ("up", "-s", "training", "--json", "--poll", "1", "--stop-after", "training")
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
    ends = journey.two_at_once(repository, server, *UP)
    assert [end.code for end in ends] == [0, 0], ends
    for end in ends:
        assert [agent["model"]["status"] for agent in json.loads(end.out)] == ["succeeded"] * 2
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


@pytest.mark.long
def test_asking_makes_no_stack_and_a_kms_may_encrypt_it(
    repository: Repository, backend: str, server: mistral.MistralServer
) -> None:
    journey.add_hosted_agents(repository, "mistral", count=1)
    asked = journey.call(repository, "status", "-s", "training", "--json")
    assert asked.code == 0, asked.err
    assert _names(f"{FOLDER}/stacks") == []
    key = boto3.client("kms").create_key()["KeyMetadata"]["KeyId"]
    provider = f"awskms://{key}?region=us-east-1"
    made = journey.call(repository, "pulumi", "stack", "init", "training", "--secrets-provider", provider)
    assert made.code == 0, made.err
    up = journey.call(repository, *UP)
    assert up.code == 0, up.err
    assert json.loads(_read(f"{FOLDER}/stacks/gitune/training.json"))["checkpoint"]["latest"]["secrets_providers"] == {
        "type": "cloud",
        "state": {"url": provider, "encryptedkey": ANY},
    }
    found = json.loads(journey.call(repository, "doctor", "-s", "training", "--json").out)
    messages = {finding["check"]: finding["message"] for finding in found}
    assert messages["backend"] == f"s3://{s3.BUCKET}/gitune answers"
    assert messages["encryption"] == "secrets are encrypted by awskms"


def test_a_bucket_that_is_not_there_is_said_in_one_line(
    repository: Repository, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    journey.add_hosted_agents(repository, "mistral", count=1)
    monkeypatch.setenv("PULUMI_BACKEND_URL", backend.replace(s3.BUCKET, "elsewhere"))
    refused = journey.call(repository, "status", "-s", "training")
    assert refused.code == 1
    assert "NoSuchBucket" in refused.err
    assert "hint: gitune doctor looks at the backend and its credentials" in refused.err


def _names(folder: str) -> list[str]:
    found = boto3.client("s3").list_objects_v2(Bucket=s3.BUCKET, Prefix=f"{folder}/")
    return [entry["Key"] for entry in found.get("Contents", ())]


def _read(name: str) -> bytes:
    body: bytes = boto3.client("s3").get_object(Bucket=s3.BUCKET, Key=name)["Body"].read()
    return body
