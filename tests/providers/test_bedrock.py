"""The bedrock provider through boto3, against a server that botocore's own service descriptions keep honest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from gitune.errors import ProviderError, QuotaExceeded, Rejected, Retired, Unauthorized, Unavailable
from gitune.hosted import open_hosted
from gitune.providers.base import Job, TrainingRequest, short
from gitune.providers.bedrock import BedrockProvider, BedrockSettings
from gitune.testing import Fault, ProviderConformance
from tests.servers.bedrock import BASE_ANSWER, BASE_MODEL, BUCKET, KEY_ID, REGION, ROLE, SECRET, BedrockServer


class BedrockWorld:
    """An account with a bucket and a role."""

    secrets = (KEY_ID, SECRET)
    has_wire = True

    def __init__(self, server: BedrockServer, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server, self.root, self._monkeypatch = server, root, monkeypatch
        folder = root / "dataset"
        folder.mkdir(parents=True)
        (folder / "train.jsonl").write_text("".join(f"{json.dumps(_example(number))}\n" for number in range(40)))
        (folder / "validation.jsonl").write_text(f"{json.dumps(_example(99))}\n")
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": server.url,
            "AWS_ENDPOINT_URL_S3": f"{server.url}/s3",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(root / "none"),
            "AWS_SHARED_CREDENTIALS_FILE": str(root / "none"),
        }.items():
            monkeypatch.setenv(name, value)

    def provider(self, **settings: object) -> BedrockProvider:
        given = {"region": REGION, "role_arn": ROLE, "bucket": BUCKET, "timeout_seconds": 0.5, **settings}
        return BedrockProvider(BedrockSettings.model_validate(given), self.root)

    def second_clone(self) -> BedrockProvider:
        return self.provider()

    def without_credentials(self) -> BedrockProvider:
        self._monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        self._monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        return self.provider()

    def request(self, number: int = 0) -> TrainingRequest:
        values = {**BedrockProvider.defaults.hyperparameters, "epochCount": 1 + number}
        return TrainingRequest("bedrock", BASE_MODEL, "lora", values, "f" * 64)

    def refused_request(self) -> TrainingRequest:
        return TrainingRequest("bedrock", BASE_MODEL, "lora", {"epochs": 3}, "f" * 64)

    def dataset(self) -> Path:
        return self.root / "dataset"

    def finish(self, job: Job) -> None:
        self.server.jobs.finish(job.job_id)

    def calls(self) -> int:
        return len(self.server.requests)

    def jobs(self) -> int:
        return len(self.server.jobs.all)

    def uploads(self) -> int:
        return sum(request.method == "PUT" for request in self.server.requests)

    def plant(self, fault: Fault, *, on: Literal["any", "submit"] = "any") -> None:
        self.server.plant(fault, on_submit=on == "submit")

    def accept_then_fail(self, message: str) -> None:
        self.server.jobs.fail_next.append(message)

    def lag_lists(self) -> None:
        self.server.jobs.lagging = True

    def lists_catch_up(self) -> None:
        self.server.jobs.catch_up()

    def say_status(self, job: Job, word: str) -> None:
        self.server.jobs.all[job.job_id].word = word

    def trained(self) -> Job:
        job = self.provider().submit_job(self.request(), self.dataset())
        self.finish(job)
        found = self.provider().find_job(job.key)
        assert found is not None
        return found


def _example(number: int) -> dict[str, object]:
    turns = [("system", "Route it."), ("user", f"question {number}"), ("assistant", f"intent_{number % 3}")]
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BedrockWorld]:
    with BedrockServer() as server:
        yield BedrockWorld(server, tmp_path, monkeypatch)
    assert server.violations == []


class TestBedrock(ProviderConformance):
    """As every provider."""
