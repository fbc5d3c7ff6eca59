"""Saved plans through the real engine: the same plan is the same bytes, and `up --plan` does that plan or nothing."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from gitune.deploy import read_routes
from tests.conftest import Repository, Result, agent_yaml
from tests.repositories import Git
from tests.test_refusals import lock, production

Gitune = Callable[..., Result]


@pytest.fixture
def deploying(repository: Repository) -> tuple[Repository, Git]:
    """A repository of git with a lock that nothing serves yet."""
    production(repository)
    repository.write(".gitignore", ".gitune/\nroutes.json\n*.plan\n")
    repository.add_agent("support")
    lock(repository, "support")
    git = Git(repository.root)
    git.commit("an agent")
    return repository, git


def save(gitune: Gitune, repository: Repository, name: str = "a.plan", *arguments: str) -> bytes:
    done = gitune("plan", "-s", "production", "--out", str(repository.root / name), *arguments)
    assert done.code == 0, done.err
    return (repository.root / name).read_bytes()


def up(gitune: Gitune, repository: Repository, name: str = "a.plan") -> Result:
    return gitune("up", "-s", "production", "--plan", str(repository.root / name))


def served(repository: Repository) -> dict[str, str]:
    return {alias: route.model_id for alias, route in read_routes(repository.root / "routes.json").items()}


@pytest.mark.slow
def test_the_same_plan_is_the_same_bytes_and_is_done(deploying: tuple[Repository, Git], gitune: Gitune) -> None:
    repository, git = deploying
    first = save(gitune, repository)
    facts = json.loads(first)
    assert facts["agents"] == {"support": f"git:{git('rev-parse', 'HEAD:agents/support')}"}
    assert facts["commit"] == git("rev-parse", "HEAD")
    assert save(gitune, repository, "b.plan") == first
    shown = gitune("plan", "-s", "production")
    assert shown.err.endswith(f"plan {facts['checksum']}\n")
    git.commit("another commit of the same files")
    done = up(gitune, repository)
    assert done.code == 0, done.err
    assert served(repository) == {"support": "local:support-1.0.0"}
    again = up(gitune, repository)
    assert again.code == 1
    assert "the plan is not what was saved, nothing was done\n  the state: something was recorded since\n" in again.err
    assert "  support: alias support → 1.0.0 (local:support-1.0.0) → no change\n" in again.err


@pytest.mark.slow
def test_nothing_is_done_by_another_plan(deploying: tuple[Repository, Git], gitune: Gitune) -> None:
    repository, _ = deploying
    save(gitune, repository)
    repository.write("agents/support/notes.txt", "not committed")
    refused = up(gitune, repository)
    assert (refused.code, served(repository)) == (1, {})
    assert "  agents/support: its files changed\n" in refused.err
    assert "hint: look at it anew: gitune plan -s production --out FILE" in refused.err
    dirty = json.loads(save(gitune, repository))
    assert dirty["agents"]["support"].startswith("sha256:")
    lock(repository, "support", "1.1.0")
    refused = up(gitune, repository)
    assert "(local:support-1.0.0) → alias support → 1.1.0 (local:support-1.1.0)" in refused.err
    production(repository, **{"gitune:store": ".gitune/elsewhere"})
    assert "  Pulumi.production.yaml says something else\n" in up(gitune, repository).err
    assert served(repository) == {}


@pytest.mark.slow
def test_a_plan_without_git(repository: Repository, gitune: Gitune) -> None:
    production(repository)
    repository.add_agent("support")
    lock(repository, "support")
    facts = json.loads(save(gitune, repository))
    assert (facts["commit"], facts["agents"]["support"][:7]) == (None, "sha256:")
    assert up(gitune, repository).code == 0


def test_both_stacks_are_one_comment(deploying: tuple[Repository, Git], gitune: Gitune) -> None:
    repository, _ = deploying
    root = repository.root
    repository.write("Pulumi.training.yaml", yaml.safe_dump({"config": {"gitune:declare": ["models"]}}))
    assert gitune("plan", "-s", "training", "--static", "--out", str(root / "training.plan")).code == 0
    save(gitune, repository, "production.plan", "--summary", str(root / "summary.md"))
    files = [option for name in ("training", "production") for option in ("--from", str(root / f"{name}.plan"))]
    done = gitune("plan", *files, "--markdown", "-")
    assert done.code == 0
    assert done.out.startswith("<!-- gitune:plan:training,production -->\n## Needs approval\n")
    assert "### Models in training" in done.out
    assert "### Aliases in production" in done.out
    assert (root / "summary.md").read_text().startswith("<!-- gitune:plan:production -->\n")
    assert gitune("plan", *files).code == 1
    assert gitune("plan", *files, "--markdown", str(root / "c.md")).out == ""
    assert (root / "c.md").read_text() == done.out


def test_wrong_files_are_a_comment_too(deploying: tuple[Repository, Git], gitune: Gitune) -> None:
    repository, _ = deploying
    repository.write("agents/support/agent.yaml", "trainning: []\n")
    for arguments in ((), ("--static",)):
        done = gitune("plan", "-s", "production", "--markdown", "-", *arguments)
        assert done.code == 1
        assert "## Blocked\n\n" in done.out
        assert "<code>agents&#47;support&#47;agent&#46;yaml&#58;1</code>" in done.out
        assert "agents/support/agent.yaml:1: " in done.err


def test_a_static_plan_asks_nobody_and_is_never_done(
    deploying: tuple[Repository, Git], gitune: Gitune, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, _ = deploying
    remote = {"dataset": {"sources": [{"path": "hf://datasets/nobody/nothing/train.jsonl", "licence": "MIT"}]}}
    repository.add_agent("far", agent_yaml(**remote, training=[{"provider": "openai"}]))
    repository.add_agent("new", agent_yaml(training=[{"provider": "mistral"}, {"provider": "local"}]))
    repository.write("Pulumi.training.yaml", yaml.safe_dump({"config": {"gitune:declare": ["models"]}}))

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("nobody is asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    path = repository.root / "static.plan"
    done = gitune("plan", "-s", "training", "--static", "--out", str(path))
    assert done.code == 0, done.err
    facts = json.loads(path.read_bytes())
    assert [(change["agent"], change["action"]) for change in facts["changes"]] == [
        ("far", "train"),
        ("new", "train"),
        ("support", "retrain"),
    ]
    assert facts["state"] is None
    assert "not known: agent far: its examples, for hf://datasets/nobody" in done.out
    assert not (repository.root / ".gitune" / "state").exists()
    refused = gitune("up", "-s", "training", "--plan", str(path))
    assert refused.code == 1
    assert "a static plan" in refused.err


def test_a_static_plan_of_what_is_locked_has_no_change(repository: Repository, gitune: Gitune) -> None:
    from gitune.project import Project, check_agent_files, training_requests
    from gitune.spec import load_agents

    repository.write("Pulumi.training.yaml", yaml.safe_dump({"config": {"gitune:declare": ["models"]}}))
    repository.add_agent("support")
    project = Project.open("training", repository.root)
    (spec,) = load_agents(repository.root)
    _, dataset = check_agent_files(spec, project)
    assert dataset is not None
    (request,) = training_requests(spec, project, dataset.fingerprint)
    facts = {"fingerprint": dataset.fingerprint, "examples": len(dataset.train)}
    same = {"provider": request.provider, "base_model": request.base_model, "dataset": facts}
    lock(repository, "support", **same, hyperparameters=dict(request.hyperparameters))
    assert json.loads(gitune("plan", "-s", "training", "--static", "--json").out) == []
    lock(repository, "support", **same, hyperparameters={**request.hyperparameters, "epochs": 99})
    (change,) = json.loads(gitune("plan", "-s", "training", "--static", "--json").out)
    assert change["reasons"] == [f"hyperparameter epochs: 99 → {request.hyperparameters['epochs']}"]


def test_a_large_file_is_not_read(repository: Repository, gitune: Gitune) -> None:
    repository.write("Pulumi.training.yaml", yaml.safe_dump({"config": {"gitune:declare": ["models"]}}))
    repository.add_agent("support")
    with Path(repository.root / "agents/support/data/train.jsonl").open("r+b") as file:
        file.truncate(1_000_000_000)
    done = gitune("plan", "-s", "training", "--static")
    assert done.code == 1
    assert "agents/support/data/train.jsonl: larger than 100 MB" in done.err


def test_a_comment_tells_of_drift_and_of_drift_that_nobody_could_ask_for(
    repository: Repository, gitune: Gitune
) -> None:
    repository.add_agent("support")
    assert gitune("plan", "--static", "--out", "a.plan", "--commit", "c" * 40).code == 0
    found = {"kind": "model-missing", "agent": "support", "provider": "mistral", "message": "gone", "hint": "train"}
    for text, told in ((json.dumps([found]), "model-missing"), ("", "gitune drift did not come to an end")):
        repository.write("drift.json", text)
        assert gitune("plan", "--from", "a.plan", "--drift", "drift.json", "--markdown", "plan.md").code == 0
        comment = (repository.root / "plan.md").read_text()
        assert told in comment
        assert f"commit <code>{'c' * 12}</code>" in comment
