"""`gitune compare AGENT@A AGENT@B`: what two locks say, and the cases where the models can still be had."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("inspect_ai", reason="the extra 'benchmark' is not installed")

from tests.benchmark.test_benchmark import BASE, MODEL, OLDER, Server, project, server
from tests.conftest import Repository, Result
from tests.repositories import Git

__all__ = ["project", "server"]
Gitune = Callable[..., Result]


@pytest.fixture
def git(project: Repository, monkeypatch: pytest.MonkeyPatch) -> Git:
    """Two versions, both of models that the provider serves."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    git = Git(project.root)
    project.write(".gitignore", ".gitune/\n")
    hosted = {"provider": "mistral", "base_model": BASE}
    git.lock("1.0.0", model_id=OLDER, hyperparameters={"epochs": 2}, **hosted)
    git.commit("one")
    git.lock("1.1.0", model_id=MODEL, hyperparameters={"epochs": 3}, **hosted)
    git.commit("two")
    return git


def compared(gitune: Gitune, *arguments: str) -> dict[str, Any]:
    result = gitune("compare", "support@1.0.0", "support@v1.1.0", "-s", "production", "--json", *arguments)
    assert result.code == 0, result.err
    found: dict[str, Any] = json.loads(result.out)
    return found


def test_two_versions_case_by_case(git: Git, gitune: Gitune) -> None:
    found = compared(gitune)
    assert (found["baseline"]["name"], found["model"]["name"]) == (
        f"support 1.0.0 (mistral:{OLDER})",
        f"support 1.1.0 (mistral:{MODEL})",
    )
    assert len(found["differences"]) == 12
    fields = {one["field"]: (one["old"], one["new"]) for one in found["locks"]["differences"]}
    assert fields == {
        "version": ("1.0.0", "1.1.0"),
        "model_id": (OLDER, MODEL),
        "hyperparameters.epochs": (2, 3),
        "dataset.fingerprint": (f"{'1.0.0':0>64}", f"{'1.1.0':0>64}"),
    }
    shown = gitune("compare", "support@1.0.0", "support", "-s", "production")
    assert shown.code == 0, shown.err
    assert "hyperparameters.epochs  2 " in shown.out
    assert "the examples that differ: gitune dataset diff support 000" in shown.out
    assert "invoice-0: 0 → 1" in shown.out
    markdown = gitune("compare", "support@1.0.0", "support", "-s", "production", "--markdown").out
    assert "| hyperparameters&#46;epochs | 2 | 3 |" in markdown
    assert markdown.count("| invoice-") == 12


def test_without_a_stack_versions_are_those_of_the_committed_locks(git: Git, gitune: Gitune) -> None:
    result = gitune("compare", "support@1.0.0", "support@1.1.0", "--json")
    assert (result.code, len(json.loads(result.out)["differences"])) == (0, 12), result.err


def test_a_model_that_is_gone_is_compared_by_what_it_answered_before(git: Git, server: Server, gitune: Gitune) -> None:
    before = compared(gitune)
    del server.known_models[OLDER]
    asked = server.asked.total()
    assert compared(gitune) == before
    assert server.asked.total() == asked


def test_a_model_that_was_never_asked_leaves_the_locks(git: Git, server: Server, gitune: Gitune) -> None:
    del server.known_models[OLDER]
    found = compared(gitune)
    assert found["unanswered"] == f"support 1.0.0: mistral has no model '{OLDER}'"
    assert {one["field"] for one in found["locks"]["differences"]} >= {"model_id", "dataset.fingerprint"}
    shown = gitune("compare", "support@1.0.0", "support@1.1.0", "-s", "production")
    assert (shown.code, "no cases are compared: support 1.0.0: mistral has no model" in shown.out) == (0, True)
    server.known_models.clear()
    assert compared(gitune)["unanswered"].startswith("support 1.")


def test_an_agent_that_is_gone_leaves_the_locks(git: Git, gitune: Gitune) -> None:
    git.lock("1.0.0", "qa")
    git.commit("qa, which has only a lock")
    shutil.rmtree(git.root / "agents" / "qa")
    git.commit("and is gone")
    result = gitune("compare", "qa@1.0.0", "qa@1.0.0", "--json")
    found = json.loads(result.out)
    assert (result.code, found["unanswered"][:13], found["locks"]["differences"]) == (0, "no agent 'qa'", [])


def test_what_nobody_knows_is_an_error(git: Git, gitune: Gitune) -> None:
    result = gitune("compare", "support@1.0.0", "support@1.0.1")
    assert (result.code, "error: support has no version 1.0.1 in git\nhint: did you mean" in result.err) == (1, True)
    assert "did you mean 'support'?" in gitune("compare", "suport@1.0.0", "support@1.0.0").err
    git.lock("1.0.0", "qa")
    git.commit("qa")
    assert "the models name two agents" in gitune("compare", "qa@1.0.0", "support@1.0.0").err


def test_a_version_is_a_model_of_gitune_benchmark(git: Git, gitune: Gitune) -> None:
    result = gitune("benchmark", "support", "-s", "production", "--json", "--against", "support@1.0.0")
    assert result.code == 0, result.err
    assert json.loads(result.out)[0]["baseline"]["name"] == f"support 1.0.0 (mistral:{OLDER})"
