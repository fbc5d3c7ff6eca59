"""`gitune doctor` through the command line: what it says of a repository, and that it changes nothing."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from gitune.files import write_atomic
from tests import s3
from tests.conftest import STACK, Repository, Result, agent_yaml
from tests.crashes import open_mistral
from tests.repositories import Git
from tests.servers import mistral
from tests.servers.github import GitHubServer

KEY = "hf_" + "aB3" * 12
WORKFLOW = """\
on: pull_request
permissions: {}
jobs:
  plan:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2
"""


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("GITHUB_", "GH_", "AWS_", "MISTRAL_", "PULUMI_")):
            monkeypatch.delenv(name)


@pytest.fixture
def committed(repository: Repository) -> Repository:
    """One agent, a workflow, all in git."""
    repository.add_agent("support")
    repository.write(".github/workflows/plan.yml", WORKFLOW)
    repository.write(".gitignore", ".gitune/\n")
    git = Git(repository.root)
    git.commit("All")
    return repository


Doctor = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture
def doctor(gitune: Callable[..., Result]) -> Doctor:
    """Findings by check; the exit code must be `code`."""

    def call(*arguments: str, code: int = 0) -> dict[str, dict[str, Any]]:
        done = gitune("doctor", "--json", *arguments)
        assert done.code == code, (done.out, done.err)
        return {finding["check"]: finding for finding in json.loads(done.out)}

    return call


def states(findings: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {check: finding["state"] for check, finding in findings.items()}


def contents(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_repository_in_order_has_no_problem_and_is_not_touched(committed: Repository, doctor: Doctor) -> None:
    before = contents(committed.root)
    found = states(doctor("--offline"))
    assert found.pop("engine") in ("ok", "warning")  # there is none until the first `up`
    assert found.pop("disk") in ("ok", "warning")
    assert found.pop("clock") == found.pop("github") == "not checked"
    assert found.pop("base model") in ("ok", "warning")
    assert found.pop("provider local") in ("ok", "problem")  # without PyTorch nothing trains here
    assert set(found.values()) == {"ok"}, found
    assert contents(committed.root) == before


def test_the_table_says_how_to_mend(committed: Repository, gitune: Callable[..., Result]) -> None:
    committed.write(".github/workflows/deploy.yml", WORKFLOW.replace("permissions: {}\n", ""))
    done = gitune("doctor", "--offline")
    assert done.code == 1
    assert "problem     workflows            no permissions: {} at the top of .github/workflows/deploy.yml" in done.out
    assert "hint: write permissions: {} at the top, and what a job needs at the job" in done.out
    assert "1 problem" in done.out.splitlines()[-1]


def test_a_key_is_found_by_file_and_line_and_never_shown(
    committed: Repository, gitune: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    unprefixed = "Zq81hTTm2pLr90xw"  # as Mistral's are
    monkeypatch.setenv("MISTRAL_API_KEY", unprefixed)
    committed.write("notes.md", f"first\nuse {KEY}\n")
    committed.write("agents/support/README.md", f"the key is {unprefixed}\n")
    committed.write("Pulumi.training.yaml", yaml.safe_dump({"config": {"other:apiKey": "q8Fz7Lk2Wm5Xc0Vb9N"}}))
    for arguments in ((), ("--json",)):
        done = gitune("doctor", "--offline", *arguments)
        assert done.code == 1
        assert "notes.md:2 (a Hugging Face token)" in done.out
        assert "agents/support/README.md:1 (the value of MISTRAL_API_KEY)" in done.out
        assert "Pulumi.training.yaml:2 (a secret)" in done.out
        assert not any(key in done.out + done.err for key in (KEY, unprefixed, "q8Fz7Lk2"))


def test_gitunes_own_files_hold_no_key(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    monkeypatch.delenv("GITUNE_ROOT", raising=False)
    found = doctor("--offline")
    assert found["secrets"]["state"] == "ok", found["secrets"]
    assert found["workflows"]["state"] == "ok", found["workflows"]


def test_a_stack_that_cannot_be_read_stops_no_other_check(committed: Repository, doctor: Doctor) -> None:
    committed.write("Pulumi.dev.yaml", "config:\n  gitune:declare: [everything]\n")
    found = doctor("--offline", code=1)
    assert found["files"]["state"] == "problem"
    assert found["files"]["message"].startswith("Pulumi.dev.yaml:2: ")
    assert found["providers"]["state"] == "not checked"
    assert found["git"]["state"] == found["workflows"]["state"] == "ok"


def test_outside_git(repository: Repository, doctor: Doctor) -> None:
    found = doctor("--offline", code=1)
    assert found["tracked"]["state"] == "problem"
    assert found["secrets"]["state"] == "not checked"


def lock_file(folder: Path, **facts: Any) -> None:
    lock = {"pid": 4711, "username": "runner", "hostname": "ci-7", "timestamp": "2026-11-23T12:00:00+01:00", **facts}
    write_atomic(folder / ".pulumi/locks/organization/gitune/dev/0fe0482d.json", json.dumps(lock))


def test_who_holds_the_stack_and_what_ends_it(
    committed: Repository, doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{tmp_path}")
    lock_file(tmp_path)
    found = doctor("--offline")["lock"]
    assert found["state"] == "warning"
    assert "runner@ci-7, process 4711, since 2026-11-23 11:00:00 UTC" in found["message"]
    assert "gitune pulumi cancel --yes --stack dev" in found["hint"]


def test_a_folder_that_is_not_there(
    committed: Repository, doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{tmp_path}/nowhere")
    found = doctor("--offline", code=1)["backend"]
    assert found["message"] == f"{tmp_path}/nowhere is not there"
    assert "create_dir=true" in found["hint"]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with s3.served() as url:
        monkeypatch.delenv("AWS_ENDPOINT_URL")
        monkeypatch.setenv("GITHUB_API_URL", url)  # for the clock
        host = url.removeprefix("http://")
        address = f"s3://{s3.BUCKET}/team?endpoint={host}&disableSSL=true&s3ForcePathStyle=true"
        monkeypatch.setenv("PULUMI_BACKEND_URL", address)
        yield url


def test_a_bucket_is_read_and_not_written(committed: Repository, doctor: Doctor, bucket: str) -> None:
    client = boto3.client("s3", endpoint_url=bucket)
    found = doctor()
    assert found["backend"]["state"] == "ok"
    assert found["backend"]["message"].startswith(f"s3://{s3.BUCKET}/team answers; stack dev is not there yet")
    assert found["encryption"]["state"] == "warning"
    assert found["clock"]["state"] == "ok"
    assert client.list_objects_v2(Bucket=s3.BUCKET)["KeyCount"] == 0
    lock = {"pid": 7, "username": "ada", "hostname": "laptop", "timestamp": "2026-11-23T11:00:00Z"}
    folder = "team/.pulumi/locks/organization/gitune/dev"
    client.put_object(Bucket=s3.BUCKET, Key=f"{folder}/1.json", Body=json.dumps(lock))
    assert "ada@laptop, process 7" in doctor()["lock"]["message"]


def test_a_bucket_that_is_not_there(
    committed: Repository, doctor: Doctor, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"s3://elsewhere?endpoint={bucket}&use_path_style=true")
    found = doctor(code=1)["backend"]
    assert found["state"] == "problem"
    assert found["message"].startswith("s3://elsewhere cannot be read: ")


def test_a_credential_is_asked_for_and_tried(
    committed: Repository, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed.write("Pulumi.dev.yaml", yaml.safe_dump({"config": {**STACK["config"], "gitune:provider": "mistral"}}))
    committed.add_agent("support", agent_yaml(training=[{"provider": "mistral"}]))
    folder = committed.root.parent
    with open_mistral(folder, monkeypatch) as server, GitHubServer(folder / "origin.git") as github:
        monkeypatch.setenv("GITHUB_API_URL", github.url)  # for the clock
        found = doctor()["provider mistral"]
        assert found["state"] == "ok"
        assert found["message"] == "MISTRAL_API_KEY set; accepted by a list of its jobs, listed by 1 agent(s)"
        assert all(request.method == "GET" for request in server.requests)
        monkeypatch.setenv("MISTRAL_API_KEY", "not-the-key")
        refused = doctor(code=1)["provider mistral"]
        assert refused["state"] == "problem"
        assert refused["message"].startswith("MISTRAL_API_KEY set; refused: ")
        assert not any(text in json.dumps(refused) for text in ("not-the-key", mistral.KEY))
        monkeypatch.delenv("MISTRAL_API_KEY")
        missing = doctor(code=1)["provider mistral"]
        assert missing["hint"] == "set MISTRAL_API_KEY"
