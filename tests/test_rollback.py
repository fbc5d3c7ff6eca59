"""`gitune rollback`: an earlier lock, byte for byte, once its provider has confirmed that the model is there."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("mistralai", reason="the extra 'mistral' is not installed")

from gitune.history import taken_versions
from gitune.lock import next_version, parse_lock
from gitune.project import Project
from tests.conftest import Repository, Result, agent_yaml
from tests.repositories import Git, lock_in, lock_text
from tests.servers.mistral import KEY, MistralServer

Gitune = Callable[..., Result]
LOCK_FILE = "agents/support/model.lock.yaml"
BASE = "open-mistral-7b"


def model(version: str) -> str:
    return f"ft:{BASE}:team:{version}"


def hosted(version: str, **changes: Any) -> dict[str, Any]:
    return {"provider": "mistral", "model_id": model(version), "base_model": BASE, **changes}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MistralServer]:
    with MistralServer() as server:
        monkeypatch.setenv("MISTRAL_API_KEY", KEY)
        monkeypatch.setenv("MISTRAL_BASE_URL", server.url)
        server.known_models = {model(version): BASE for version in ("1.0.0", "1.1.0", "1.2.0")}
        yield server


@pytest.fixture
def git(repository: Repository, server: MistralServer, monkeypatch: pytest.MonkeyPatch) -> Git:
    """Three versions of support, and one of qa."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    stack = {"config": {"gitune:declare": ["deployments"], "gitune:locks": "agents"}}
    repository.write("Pulumi.production.yaml", yaml.safe_dump(stack))
    found = Git(repository.root)
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        found.lock(version, **hosted(version))
        found.commit(f"Lock support {version}")
    found.lock("1.0.0", "qa", **hosted("1.0.0"))
    found.commit("Lock qa 1.0.0")
    return found


def test_back_and_forth_byte_for_byte(git: Git, gitune: Gitune) -> None:
    path = git.root / LOCK_FILE
    result = gitune("rollback", "support")
    assert result.code == 0, result.err
    assert result.out == (
        "support: 1.2.0 → 1.1.0, ft:open-mistral-7b:team:1.1.0 on mistral\n"
        f"wrote {LOCK_FILE} as commit {git('rev-parse', '--short=12', 'HEAD~2')} has it\n"
        f"next: git commit -m 'Roll support back to 1.1.0' -- {LOCK_FILE}\n"
        "then a pull request, whose merge deploys it; or at once: gitune up -s production\n"
    )
    assert path.read_bytes() == lock_text("1.1.0", **hosted("1.1.0")).encode()
    assert git("status", "--porcelain") == f"M {LOCK_FILE}"
    git.commit("Roll support back to 1.1.0")
    assert gitune("rollback", "support").code == 0
    assert lock_in(git.root).version == "1.0.0"
    git.commit("Roll support back to 1.0.0")
    assert gitune("rollback", "support", "--to", "v1.2.0").code == 0
    assert path.read_bytes() == lock_text("1.2.0", **hosted("1.2.0")).encode()
    git.commit("Forward")
    kinds = [entry["kind"] for entry in json.loads(gitune("history", "support", "--json").out)["entries"]]
    assert kinds == ["roll forward", "rollback", "rollback", "new", "new", "new"]


def test_twice_in_a_row_without_a_commit(git: Git, gitune: Gitune) -> None:
    for expected in ("1.1.0", "1.0.0"):
        assert gitune("rollback", "support").code == 0
        assert lock_in(git.root).version == expected
    result = gitune("rollback", "support")
    assert result.err.startswith("error: git knows no version of support before the present one\nhint: ")
    again = gitune("rollback", "support", "--to", "1.0.0")
    assert (again.code, again.out) == (0, "support is at 1.0.0 already: nothing to do\n")


def test_a_dry_run_asks_and_writes_nothing(git: Git, gitune: Gitune) -> None:
    result = gitune("rollback", "support", "--to", "1.0.0", "--dry-run", "--json")
    facts = json.loads(result.out)
    assert (facts["from"], facts["to"], facts["written"]) == ("1.2.0", "1.0.0", False)
    assert git("status", "--porcelain") == ""


def test_a_model_that_is_gone_is_said_so_before_anything_changes(
    git: Git, server: MistralServer, gitune: Gitune, monkeypatch: pytest.MonkeyPatch
) -> None:
    del server.known_models[model("1.1.0")]
    result = gitune("rollback", "support")
    said = (
        "error: nothing was changed: mistral no longer has ft:open-mistral-7b:team:1.1.0, the model of support 1.1.0\n"
    )
    assert (result.code, result.out, result.err.startswith(said)) == (1, "", True), result.err
    assert "hint: go back to another version with --to VERSION" in result.err
    assert gitune("rollback", "support", "--dry-run").code == 1
    monkeypatch.setenv("MISTRAL_API_KEY", "another-key")
    result = gitune("rollback", "support", "--to", "1.0.0")
    assert (result.code, "does not say whether it still has" in result.err) == (1, True)
    assert f"hint: git checkout {git('rev-parse', '--short=12', 'HEAD~3')} -- {LOCK_FILE}" in result.err
    assert "another-key" not in result.err
    assert git("status", "--porcelain") == ""


def test_what_only_the_working_tree_holds_is_not_lost(git: Git, gitune: Gitune) -> None:
    git.lock("1.3.0", **hosted("1.3.0"))
    result = gitune("rollback", "support")
    said = f"error: {LOCK_FILE} has changes that no commit has\nhint: commit it first"
    assert (result.code, result.err.startswith(said)) == (1, True), result.err
    assert lock_in(git.root).version == "1.3.0"


def test_a_deleted_lock_comes_back(git: Git, gitune: Gitune) -> None:
    git("rm", "--quiet", LOCK_FILE)
    git.commit("the agent leaves")
    result = gitune("rollback", "support")
    assert (result.code, result.out.startswith("support: no lock → 1.2.0, ")) == (0, True), result.err
    assert lock_in(git.root).version == "1.2.0"


def test_a_lock_that_this_gitune_cannot_read_is_not_written(git: Git, gitune: Gitune) -> None:
    (git.root / LOCK_FILE).write_text("version: 0.9.0\nprovider: mistral\nmodel_id: ft:open-mistral-7b:team:1.0.0\n")
    git.commit("as if it were old")
    git.lock("1.3.0", **hosted("1.3.0"))
    git.commit("and on")
    result = gitune("rollback", "support", "--to", "0.9.0")
    assert (result.code, f":{LOCK_FILE}:1: not a lock: " in result.err) == (1, True), result.err
    assert lock_in(git.root).version == "1.3.0"


def test_locks_that_are_not_committed_have_no_earlier_version(git: Git, gitune: Gitune) -> None:
    dev = git.root / ".gitune/dev/locks/support/model.lock.yaml"
    dev.parent.mkdir(parents=True)
    dev.write_text(lock_text("1.0.0"))
    result = gitune("rollback", "support", "-s", "dev")
    said = (
        "error: no lock of stack dev is committed below .gitune/dev/locks/: nothing to go back to\nhint: name a stack"
    )
    assert (result.code, result.err.startswith(said)) == (1, True), result.err


def test_what_is_misspelt_gets_a_hint(git: Git, gitune: Gitune) -> None:
    assert "hint: did you mean 'support'?" in gitune("rollback", "suport").err
    assert (
        "error: support has no version 1.1.1 in git\nhint: did you mean"
        in gitune("rollback", "support", "--to", "1.1.1").err
    )
    assert "hint: did you mean 'production'?" in gitune("rollback", "support", "-s", "producton").err


def test_a_shallow_clone_says_why_it_cannot(
    git: Git, gitune: Gitune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--depth=1", git.root.as_uri(), str(clone)], check=True)
    monkeypatch.chdir(clone)
    for arguments in ((), ("--to", "1.0.0")):
        result = gitune("rollback", "support", *arguments)
        assert (result.code, "hint: this clone is shallow: git fetch --unshallow" in result.err) == (1, True)


def test_after_a_rollback_no_number_is_given_twice(git: Git, gitune: Gitune) -> None:
    """1.1.0 and 1.2.0 are taken by the models that were rolled back, unless one of these returns."""
    assert gitune("rollback", "support", "--to", "1.0.0").code == 0
    git.commit("back")
    taken = taken_versions(Project.open("production"), "support")
    previous = lock_in(git.root)

    def following(**changes: Any) -> str:
        return next_version(previous, parse_lock(lock_text("", **hosted("", **changes)).encode(), "lock"), taken)

    assert following(model_id="ft:new") == "1.3.0"
    assert following(model_id=model("1.1.0")) == "1.1.0"
    assert following(model_id="ft:new", base_model="another") == "2.0.0"
    git("tag", "-a", "-m", "of another branch", "support@v1.3.0")
    taken = taken_versions(Project.open("production"), "support")
    assert following(model_id="ft:new") == "1.4.0"


def test_what_is_adopted_after_a_rollback_has_a_number_of_its_own(
    git: Git, repository: Repository, server: MistralServer, gitune: Gitune
) -> None:
    repository.add_agent("support", agent_yaml(training=[{"provider": "mistral"}]))
    shutil.rmtree(repository.root / "agents/qa")
    assert gitune("rollback", "support", "--to", "1.0.0").code == 0
    git.commit("back")
    server.known_models["ft:open-mistral-7b:team:new"] = BASE
    new = ("--provider", "mistral", "--model", "ft:open-mistral-7b:team:new", "-s", "production")
    result = gitune("adopt", "support", *new)
    assert (result.code, lock_in(git.root).version) == (0, "1.3.0"), result.err
