"""`gitune tag`: tags that the real gto reads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Repository, Result
from tests.repositories import Git

Gitune = Callable[..., Result]
_BESIDE = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


@pytest.fixture
def git(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Git:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    for who in ("GIT_COMMITTER", "GIT_AUTHOR"):
        monkeypatch.setenv(f"{who}_NAME", "Release bot")
        monkeypatch.setenv(f"{who}_EMAIL", "bot@example.org")
    found = Git(repository.root)
    found.now -= 100 * 86400  # locks come before the tags, which are of now
    found.lock("1.0.0")
    found.commit("one")
    return found


def written(gitune: Gitune, *arguments: str) -> dict[str, str]:
    result = gitune("tag", *arguments, "--json")
    assert result.code == 0, result.err
    return {tag["tag"]: tag["commit"] for tag in json.loads(result.out) if tag["written"]}


def gto_says(root: Path) -> dict[str, tuple[str, str | None]]:
    """By agent: the newest version, and the one in production."""
    found = shutil.which("gto", path=_BESIDE)
    if found is None:
        pytest.skip("gto is not installed")
    done = subprocess.run([found, "show", "--json"], cwd=root, capture_output=True, text=True, check=True)
    return {agent: (row["version"], row["stage"].get("production")) for agent, row in json.loads(done.stdout).items()}


def test_gto_reads_versions_stages_and_rollbacks(git: Git, gitune: Gitune) -> None:
    first = git("rev-parse", "HEAD")
    git.lock("2.0.0", "legal")
    git.commit("legal")
    legal = git("rev-parse", "HEAD")
    assert written(gitune, "--stage", "production") == {
        "support@v1.0.0": first,
        "support#production#1": first,
        "legal@v2.0.0": legal,
        "legal#production#1": legal,
    }
    git.lock("1.1.0")
    second = git.commit("two")
    git.commit("something else")
    assert written(gitune) == {"support@v1.1.0": second}
    assert gto_says(git.root) == {"support": ("v1.1.0", "v1.0.0"), "legal": ("v2.0.0", "v2.0.0")}
    assert written(gitune, "support", "--stage", "production") == {"support#production#2": second}
    assert gto_says(git.root)["support"] == ("v1.1.0", "v1.1.0")
    git("revert", "--no-edit", second)
    assert written(gitune, "--stage", "production") == {"support#production#3": first}
    assert gto_says(git.root) == {"support": ("v1.1.0", "v1.0.0"), "legal": ("v2.0.0", "v2.0.0")}
    (git.root / "agents/legal/model.lock.yaml").unlink()
    git.commit("legal leaves")
    assert written(gitune, "--stage", "production") == {"legal#production!#2": legal}
    assert gto_says(git.root) == {"support": ("v1.1.0", "v1.0.0"), "legal": ("v2.0.0", None)}


def test_tagging_again_writes_nothing(git: Git, gitune: Gitune) -> None:
    assert len(written(gitune, "--stage", "production")) == 2
    before = git("for-each-ref")
    assert written(gitune, "--stage", "production") == {}
    assert "support@v1.0.0 at " in gitune("tag").out
    assert ": there already\n" in gitune("tag").out
    assert git("for-each-ref") == before
    message = git("for-each-ref", "--format=%(contents)", "refs/tags/support@v1.0.0")
    assert "model: local:support-1.0.0 on local\n" in message
    assert f"dataset: {'1.0.0':0>64}, 456 examples\n" in message


def test_a_dry_run_writes_nothing(git: Git, gitune: Gitune) -> None:
    assert ": missing\n" in gitune("tag", "--dry-run", "--stage", "production").out
    assert git("tag") == ""


def test_deployments_are_in_the_history(git: Git, gitune: Gitune, monkeypatch: pytest.MonkeyPatch) -> None:
    def deployed() -> None:
        git.now += 3600
        monkeypatch.setenv("GIT_COMMITTER_DATE", f"{git.now} +0000")
        assert gitune("tag", "--stage", "production").code == 0

    deployed()
    git.lock("1.1.0")
    git.commit("two")
    deployed()
    git("revert", "--no-edit", "HEAD", GIT_COMMITTER_DATE=f"{git.now + 60} +0000")
    deployed()
    entries = json.loads(gitune("history", "--json").out)["entries"]
    assert [(e["version"], e["kind"], [one["tag"] for one in e["deployed"]]) for e in entries] == [
        ("1.0.0", "rollback", ["support#production#3"]),
        ("1.1.0", "new", ["support#production#2"]),
        ("1.0.0", "new", ["support#production#1"]),
    ]
    assert entries[0]["deployed"][0]["who"] == "Release bot"
    assert "deployed to production: 2026-" in gitune("show", "support@1.0.0").out


def test_a_tag_that_says_something_else_is_refused_and_not_moved(git: Git, gitune: Gitune) -> None:
    git.lock("1.1.0")
    git.commit("two")
    git("tag", "-a", "-m", "wrong", "support@v1.1.0", "HEAD~1")
    before = git("for-each-ref")
    result = gitune("tag", "--stage", "production")
    assert (result.code, "whose lock says something else: 1.0.0, local:support-1.0.0" in result.err) == (1, True)
    assert "hint: tags are not moved" in result.err
    git("tag", "-d", "support@v1.1.0")
    git("tag", "support@v1.1.0")
    result = gitune("tag")
    assert (result.code, "is not annotated, so GTO does not read it" in result.err) == (1, True)
    git("tag", "-d", "support@v1.1.0")
    git.commit("later")
    git("tag", "-a", "-m", "by hand, where the lock is the same", "support@v1.1.0")
    assert written(gitune) == {}
    assert before != git("for-each-ref")


def test_a_version_of_two_models_is_refused(git: Git, gitune: Gitune) -> None:
    git.lock("1.0.0", model_id="local:another")
    git.commit("edited by hand")
    result = gitune("tag")
    assert (result.code, "error: support 1.0.0 was local:support-1.0.0 in " in result.err) == (1, True), result.err
    assert git("tag") == ""


def test_tags_are_pushed_once_by_whoever_comes_first(
    git: Git, gitune: Gitune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = tmp_path / "hub.git"
    git("clone", "--quiet", "--bare", str(git.root), str(hub))
    git("remote", "add", "origin", str(hub))
    other = tmp_path / "other"
    git("clone", "--quiet", str(hub), str(other))
    assert len(written(gitune, "--stage", "production", "--push", "origin")) == 2
    monkeypatch.chdir(other)
    shutil.copy(git.root / "Pulumi.yaml", other)
    shutil.copy(git.root / "Pulumi.dev.yaml", other)
    assert written(gitune, "--stage", "production", "--push", "origin") == {}
    assert git("tag") == git("--git-dir", str(hub), "tag") == "support#production#1\nsupport@v1.0.0"
    hub.rename(tmp_path / "away.git")
    monkeypatch.chdir(git.root)
    git.lock("1.1.0")
    git.commit("two")
    result = gitune("tag", "--push", "origin")
    assert (result.code, result.err.startswith("error: git fetch: ")) == (1, True), result.err
    assert "support@v1.1.0" not in git("tag")


def test_what_cannot_be_pushed_is_taken_back(git: Git, gitune: Gitune, tmp_path: Path) -> None:
    hub = tmp_path / "hub.git"
    git("clone", "--quiet", "--bare", str(git.root), str(hub))
    git("remote", "add", "origin", str(hub))
    hook = hub / "hooks" / "update"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    result = gitune("tag", "--push", "origin")
    assert (result.code, "hint: nothing was tagged" in result.err) == (1, True), result.err
    assert git("tag") == ""


def test_a_shallow_clone_does_not_guess(
    git: Git, gitune: Gitune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git.commit("something else")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--depth=1", git.root.as_uri(), str(clone)], check=True)
    monkeypatch.chdir(clone)
    result = gitune("tag")
    assert (result.code, "which commit brought support 1.0.0 is not known here\nhint: this clone" in result.err) == (
        1,
        True,
    )


def test_nobody_to_sign_as(git: Git, gitune: Gitune, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    git("config", "user.useConfigOnly", "true")
    result = gitune("tag")
    assert (result.code, "hint: git config user.name" in result.err) == (1, True), result.err


def test_a_name_that_is_wrong(git: Git, gitune: Gitune) -> None:
    assert "did you mean 'support'?" in gitune("tag", "suport").err
    assert "error: a stage is letters" in gitune("tag", "--stage", "pro duction").err
