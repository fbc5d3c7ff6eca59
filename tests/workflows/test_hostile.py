"""A stranger's pull request: nothing of it runs, no secret is reached, and what is wrong with it is said."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Repository, Result, agent_yaml
from tests.servers import mistral
from tests.servers.github import GitHubServer
from tests.workflows.act import GitHub, find_act
from tests.workflows.test_story import add_agent, pull_request

pytestmark = pytest.mark.slow

SECRETS = {"MISTRAL_API_KEY": mistral.KEY, "OPENAI_API_KEY": "openai-planted-key-1a2b3c"}
INJECTED = "${{ secrets.MISTRAL_API_KEY }} $(touch $PWNED) `touch $PWNED` '; touch $PWNED; ' \" && touch $PWNED"
MARKED = "<img src=x onerror=alert(1)> [x](javascript:alert(1)) @everyone | --> <!-- gitune"
GIGABYTE = 1 << 30
LOCK = "model.lock.yaml"


@pytest.fixture
def github(tmp_path: Path) -> Iterator[GitHub]:
    act = find_act()
    if isinstance(act, str):
        pytest.skip(act)
    with GitHubServer(tmp_path / "origin.git") as api:
        github = GitHub(tmp_path, act, api, {"PWNED": str(tmp_path / "pwned")})
        add_agent(github, "first")
        github.push("One agent")
        github.git("checkout", "--quiet", "-b", "evil")
        yield github


def from_a_fork(github: GitHub) -> dict[str, object]:
    payload = pull_request(github, "evil")
    payload["pull_request"]["head"]["repo"]["full_name"] = "stranger/agents"  # type: ignore[index]
    return payload


def change_all_code(github: GitHub) -> None:
    """Whatever would run if any file of it did."""
    shell, python = 'touch "$PWNED"; env\n', "import os, pathlib; pathlib.Path(os.environ['PWNED']).touch()\n"
    write = github.repository.write
    write("scripts/gitune", f"#!/bin/sh\n{shell}").chmod(0o755)
    write(
        ".github/actions/setup/action.yml",
        f"name: x\ndescription: x\nruns:\n  using: composite\n  steps:\n    - shell: bash\n      run: {shell}",
    )
    for file in ("infra/__main__.py", "sitecustomize.py", "agents/sitecustomize.py", "agents/first/conftest.py"):
        write(file, python)
    write("agents/first/generate.py", python)
    write(
        "Pulumi.yaml",
        "name: gitune\nruntime: {name: python}\nmain: infra/\nplugins: {providers: [{name: x, path: .}]}\n",
    )
    write("Pulumi.training.yaml", "config:\n  gitune:providers: {openai: {base_url: https://example.org}}\n")


def check_nothing_leaked(github: GitHub, log: str) -> None:
    assert not (github.folder / "pwned").exists()
    for secret in SECRETS.values():
        assert secret not in log


def test_changed_code_does_not_run(github: GitHub) -> None:
    change_all_code(github)
    add_agent(github, "second")
    github.push("Innocent", "evil")
    run = github.run("plan", "pull_request", from_a_fork(github), secrets=SECRETS)
    assert run.code == 0, run.log
    assert run.jobs("succeeded") == {"files and static plan"}
    assert "second" in (run.artifacts / "static-plan" / "plan.md").read_text()
    assert github.server.requests == []  # no comment: that job holds the keys
    check_nothing_leaked(github, run.log)


def test_names_and_texts_are_refused_or_said_as_they_are(github: GitHub) -> None:
    github.repository.add_agent("$(touch $PWNED)")
    github.repository.add_agent("x; touch $PWNED")
    spec = agent_yaml(description=f"{INJECTED} {MARKED}", alias=INJECTED, training=[{"provider": INJECTED}])
    github.repository.add_agent("texts", spec)
    anchors = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    github.repository.write("agents/laughs/agent.yaml", anchors)
    github.push("Hostile texts", "evil")
    run = github.run("plan", "pull_request", from_a_fork(github), secrets=SECRETS)
    assert run.code == 1
    for agent in ("$(touch $PWNED)", "x; touch $PWNED", "texts", "laughs"):
        assert f"agents/{agent}/agent.yaml:" in run.log, run.log
    assert "bad agent name" in run.log
    assert run.jobs("succeeded") == set()
    check_nothing_leaked(github, run.log)


def test_links_out_of_the_tree_are_refused(github: GitHub) -> None:
    for name, target, file in (
        ("passwords", "/etc/passwd", "data/train.jsonl"),
        ("config", "../../../.git/config", "benchmark/cases.jsonl"),
        ("spec", "../first/agent.yaml", "agent.yaml"),
    ):
        add_agent(github, name)
        link = github.git.root / "agents" / name / file
        link.unlink()
        link.symlink_to(target)
    (github.git.root / "agents" / "folder").symlink_to("/etc")
    github.push("Links", "evil")
    run = github.run("plan", "pull_request", from_a_fork(github), secrets=SECRETS)
    assert run.code == 1
    assert "'data/train.jsonl' is outside the repository" in run.log
    assert "agents/spec/agent.yaml: agent.yaml must not be a symbolic link" in run.log
    assert "root:" not in run.log
    assert "[core]" not in run.log
    check_nothing_leaked(github, run.log)


@pytest.mark.parametrize("file", ["data/train.jsonl", "benchmark/cases.jsonl", "agent.yaml", LOCK])
def test_a_gigabyte_of_nothing_is_refused(repository: Repository, gitune: Callable[..., Result], file: str) -> None:
    repository.add_agent("huge")
    path = repository.write(f"agents/huge/{file}", "")
    os.truncate(path, GIGABYTE)
    repository.write("Pulumi.production.yaml", "config: {'gitune:declare': [deployments], 'gitune:locks': agents}\n")
    result = gitune("plan", "-s", "production") if file == LOCK else gitune("validate")
    assert result.code == 1
    assert file in result.err
    assert "1 MB" in result.err or "nothing but null bytes" in result.err
