"""Facts to findings: what is ok, a warning or a problem."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gitune.doctor.backend import judge_encryption, s3_options
from gitune.doctor.clock import judge_clock
from gitune.doctor.finding import Finding, Setting
from gitune.doctor.machine import judge_disk, judge_engine, judge_git, judge_packages, judge_python
from gitune.doctor.providers import Account, judge_account
from gitune.doctor.repository import judge_tracked
from gitune.doctor.run import CHECKS, examine
from gitune.doctor.workflows import judge_workflows, read_workflow
from gitune.engine.install import Engine
from gitune.errors import Retired, Unavailable

NOW = datetime(2026, 11, 23, tzinfo=UTC)
ENGINE = Engine(Path("/usr/bin/pulumi"), "3.270.0", "path")


@pytest.mark.parametrize(
    ("finding", "state"),
    [
        (judge_python((3, 10, 9)), "problem"),
        (judge_python((3, 13, 0)), "ok"),
        (judge_git("git version 2.39.5 (Apple Git-154)"), "ok"),
        (judge_git("git version 2.20.1"), "warning"),
        (judge_git(""), "problem"),
        (judge_disk(100 * 2**30), "ok"),
        (judge_disk(3 * 2**30), "warning"),
        (judge_disk(2**20), "problem"),
        (judge_clock(NOW, NOW + timedelta(seconds=59), "github"), "ok"),
        (judge_clock(NOW, NOW + timedelta(seconds=61), "github"), "warning"),
        (judge_clock(NOW + timedelta(hours=1), NOW, "github"), "warning"),
        (judge_engine(ENGINE, "3.272.0", []), "ok"),
        (judge_engine(None, "3.272.0", []), "warning"),
        (judge_tracked(None, []), "problem"),
        (judge_tracked([".gitune/state.json"], []), "problem"),
        (judge_tracked(["agents/a/agent.yaml"], ["a", "b"]), "warning"),
        (judge_tracked(["agents/a/agent.yaml"], ["a"]), "ok"),
    ],
)
def test_machine_and_repository(finding: Finding, state: str) -> None:
    assert finding.state == state
    assert (finding.hint == "") == (state == "ok")


def test_packages_are_held_against_what_gitune_requires() -> None:
    required = ["pulumi>=3.272,<4", "click>=8.3", 'torch>=2; extra == "local"']
    versions = {"pulumi": "3.272.0", "click": "8.3.1"}
    assert judge_packages("1", required, versions.get).state == "ok"
    wrong = judge_packages("1", required, {"pulumi": "4.0.0"}.get)
    assert wrong.message == "gitune 1: pulumi 4.0.0 does not fit <4,>=3.272, click is missing"


@pytest.mark.parametrize(
    ("stack_file", "environment", "scheme", "state"),
    [
        ({}, {}, "file", "ok"),
        ({}, {}, "s3", "warning"),
        ({}, {"PULUMI_CONFIG_PASSPHRASE": "x"}, "s3", "ok"),
        ({}, {"PULUMI_CONFIG_PASSPHRASE_FILE": "/nowhere/at/all"}, "s3", "problem"),
        ({"secretsprovider": "awskms://alias/gitune?region=eu-west-1"}, {}, "s3", "ok"),
        ({}, {}, "https", "ok"),
        ({"config": {"a:b": {"secure": "v1:x"}}}, {}, "file", "warning"),
    ],
)
def test_encryption(stack_file: dict[str, Any], environment: dict[str, str], scheme: str, state: str) -> None:
    assert judge_encryption(stack_file, environment, scheme).state == state


def test_the_engines_parameters_of_a_bucket_are_understood() -> None:
    old = s3_options({"endpoint": "minio:9000", "disableSSL": "true", "s3ForcePathStyle": "true", "region": "eu"})
    new = s3_options({"endpoint": "http://minio:9000", "use_path_style": "true", "region": "eu"})
    assert old == new
    assert old["client_kwargs"] == {"endpoint_url": "http://minio:9000", "region_name": "eu"}
    assert s3_options({"profile": "team"})["profile"] == "team"


@pytest.mark.parametrize(
    ("account", "alone", "state"),
    [
        (Account("openai", 2, (), "set OPENAI_API_KEY", False), True, "problem"),
        (Account("openai", 2, (), "set OPENAI_API_KEY", False), False, "warning"),
        (Account("openai", 2, ("OPENAI_API_KEY",), "", True), True, "ok"),
        (Account("openai", 2, ("OPENAI_API_KEY",), "", False), True, "not checked"),
        (Account("openai", 2, ("OPENAI_API_KEY",), "", True, Retired("gone")), True, "warning"),
        (Account("openai", 2, ("OPENAI_API_KEY",), "", True, Unavailable("timed out")), True, "not checked"),
    ],
)
def test_providers(account: Account, alone: bool, state: str) -> None:
    assert judge_account(account, alone=alone).state == state


def test_workflows() -> None:
    target = read_workflow("a.yml", "on: [pull_request_target]\npermissions: {}\njobs: {}\n")
    tagged = read_workflow("b.yml", "on: push\njobs: {a: {steps: [{uses: actions/checkout@v6}, {uses: ./local}]}}\n")
    found = {finding.message: finding.state for finding in judge_workflows([target, tagged])}
    assert found == {
        "pull_request_target in a.yml": "problem",
        "no permissions: {} at the top of b.yml": "problem",
        "actions that are not pinned: b.yml: actions/checkout@v6": "warning",
    }
    assert [finding.state for finding in judge_workflows([])] == ["warning"]


def test_a_check_that_fails_itself_stops_no_other(tmp_path: Path) -> None:
    """Nothing is there at all, not even Pulumi.yaml."""
    found = list(examine(Setting(tmp_path, "dev", online=False)))
    assert {finding.check for finding in found} >= {"python", "git", "disk", "github", "workflows"}
    assert len(found) >= len(CHECKS) - 1
