"""What the workflow files promise whoever reads them: nobody without trust gets anything."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / ".github"
WORKFLOWS = {path.stem: path for path in sorted(FOLDER.glob("workflows/*.yml"))}
ENVIRONMENTS = {
    ("plan", "plan"): "plan",
    ("train", "train"): "training",
    ("train", "benchmark"): "training",
    ("train", "propose"): "training",
    ("deploy", "deploy"): "production",
    ("drift", "drift"): "plan",
    ("release", "publish"): "pypi",
}
TOOLS = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "gitune" / "bin"


def workflow(name: str) -> dict[str, Any]:
    data: dict[Any, Any] = yaml.safe_load(WORKFLOWS[name].read_text())
    return {str(key): value for key, value in data.items()} | {"on": data[True]}  # YAML 1.1 reads `on` as true


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_job_asks_for_what_it_needs_and_no_more(name: str) -> None:
    found = workflow(name)
    assert found["permissions"] == {}
    for job, facts in found["jobs"].items():
        assert facts["permissions"], job
        assert facts["timeout-minutes"] <= 120, job


@pytest.mark.parametrize("name", WORKFLOWS)
def test_secrets_are_used_where_an_environment_guards_them_only(name: str) -> None:
    for job, facts in workflow(name)["jobs"].items():
        assert facts.get("environment") == ENVIRONMENTS.get((name, job)), job
        if "environment" not in facts:
            assert "secrets." not in yaml.safe_dump(facts), job


def test_no_workflow_runs_with_rights_on_what_strangers_wrote() -> None:
    for name in WORKFLOWS:
        assert not {"pull_request_target", "workflow_run", "issue_comment"} & set(workflow(name)["on"]), name
    plan = workflow("plan")["jobs"]
    assert plan["static"]["permissions"] == {"contents": "read"}
    assert "head.repo.full_name == github.repository" in plan["plan"]["if"]
    assert "dependabot[bot]" in plan["plan"]["if"]


def test_the_plan_runs_no_file_of_the_pull_request() -> None:
    for job in workflow("plan")["jobs"].values():
        checkouts = [step for step in job["steps"] if "actions/checkout" in step.get("uses", "")]
        refs = {step["with"].get("path", "."): step["with"]["ref"] for step in checkouts}
        assert refs["."] == "${{ github.event.pull_request.base.sha }}"
        assert refs[".gitune/tool"] == "${{ inputs.gitune-ref || github.event.pull_request.base.sha }}"
        assert all(step["with"]["persist-credentials"] is False for step in checkouts)
        local = [step["uses"] for step in job["steps"] if step.get("uses", "").startswith("./")]
        assert local == ["./.gitune/tool/.github/actions/setup"]


@pytest.mark.parametrize("name", ["plan", "train", "deploy", "drift"])
def test_nothing_with_keys_runs_before_somebody_turned_it_on(name: str) -> None:
    jobs = workflow(name)["jobs"].values()
    guarded = [job for job in jobs if "environment" in job and not {"train", "benchmark"} & {*_needed(job)}]
    assert guarded
    assert all("vars.GITUNE == 'on'" in job["if"] for job in guarded)


def _needed(job: dict[str, Any]) -> list[str]:
    needs = job.get("needs", [])
    return [needs] if isinstance(needs, str) else needs


@pytest.mark.parametrize("name", ["train", "deploy", "drift"])
def test_a_run_that_works_is_never_cancelled(name: str) -> None:
    concurrency = workflow(name)["concurrency"]
    assert concurrency["cancel-in-progress"] is False
    assert "${{" not in concurrency["group"]  # one at a time, whoever started it


def test_a_merged_lock_deploys_and_does_not_train() -> None:
    assert "!agents/*/model.lock.yaml" in workflow("train")["on"]["push"]["paths"]
    assert "agents/*/model.lock.yaml" in workflow("deploy")["on"]["push"]["paths"]


@pytest.mark.parametrize(
    "file", [*WORKFLOWS.values(), *FOLDER.glob("actions/*/action.yml")], ids=lambda file: file.name
)
def test_actions_of_others_are_pinned_by_commit_with_their_version(file: Path) -> None:
    for line in file.read_text().splitlines():
        used = re.search(r"uses: (.*)", line)
        if used and not used[1].startswith("./"):
            assert re.fullmatch(r"[\w-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", used[1]), line


@pytest.mark.parametrize(
    "file", [*WORKFLOWS.values(), *FOLDER.glob("actions/*/action.yml")], ids=lambda file: file.name
)
def test_no_text_of_others_reaches_a_shell_as_code(file: Path) -> None:
    runs = re.findall(r"run: (?:\|.*\n((?:\s{8,}.*\n)+)|(.*))", file.read_text())
    assert not [run for run in runs if "${{" in "".join(run)]


def test_actionlint_finds_nothing() -> None:
    actionlint = next(TOOLS.glob("actionlint-*"), None)
    if actionlint is None:
        pytest.skip("scripts/lint builds actionlint where Go is installed")
    done = subprocess.run([actionlint], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_zizmor_finds_nothing_that_is_not_argued() -> None:
    zizmor = shutil.which("zizmor", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if zizmor is None:
        pytest.skip("zizmor is not installed")
    command = [zizmor, "--offline", "--persona=auditor", "--no-progress", "--quiet", ".github"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    for file in [*WORKFLOWS.values(), *FOLDER.glob("actions/*/action.yml")]:
        for ignored in re.findall(r"zizmor: ignore\[[\w-]+\](.*)", file.read_text()):
            assert len(ignored.split()) >= 5, f"{file.name}: an exception without its reason"
