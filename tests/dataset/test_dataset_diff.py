"""`gitune dataset diff` between git revisions: built from their own files, the checkout untouched."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from gitune.dataset.compare import Side, compare, comparison_text
from gitune.hashing import canonical_json
from tests.conftest import Repository, Result, agent_yaml, example, jsonl

Gitune = Callable[..., Result]
EXAMPLES = [example(f"which parcel number {i} is it", f"intent_{i % 3}") for i in range(30)]
TRAIN = "agents/qa/data/train.jsonl"


class Git:
    """Real git in a repository of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self("init", "--quiet", "--initial-branch=main")

    def __call__(self, *arguments: str) -> str:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
        done = subprocess.run(["git", *who, *arguments], cwd=self.root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self, message: str) -> str:
        self("add", "--all")
        self("commit", "--quiet", "--allow-empty", "-m", message)
        return self("rev-parse", "HEAD")


@pytest.fixture
def git(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Git:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    found = Git(repository.root)
    repository.write(".gitignore", ".gitune/\n")
    repository.add_agent("qa", examples=EXAMPLES)
    found.commit("first")
    found("tag", "v1")
    return found


def users(found: dict[str, Any], kind: str) -> list[str]:
    return [json.loads(line)["messages"][1]["content"] for line in found[kind]]


def test_revisions_are_compared_as_git_compares_them(repository: Repository, git: Git, gitune: Gitune) -> None:
    repository.write(TRAIN, jsonl([*EXAMPLES, example("second", "intent_0")]))
    git.commit("second")
    git("checkout", "--quiet", "-b", "side", "v1")
    repository.write(TRAIN, jsonl(EXAMPLES[1:]))
    side = git.commit("side")
    repository.write(TRAIN, jsonl([*EXAMPLES[1:], example("not committed", "intent_2")]))

    def diff(*names: str) -> tuple[list[str], list[str]]:
        result = gitune("dataset", "diff", "qa", *names, "--json")
        assert result.code == 0, result.err
        found = json.loads(result.out)
        return users(found, "added"), users(found, "removed")

    lost = "which parcel number 0 is it"
    assert diff() == (["not committed"], [])
    assert diff("v1") == (["not committed"], [lost])
    assert diff("main") == (["not committed"], ["second", lost])
    assert diff("v1", "main") == diff("v1..main") == diff("main~1..main") == (["second"], [])
    assert diff("main..side") == diff("main..") == diff("main", side[:9]) == ([], ["second", lost])
    assert diff("main...side") == ([], [lost])
    assert diff("..main") == (["second", lost], [])


def test_a_revision_against_a_dataset_that_was_built(repository: Repository, git: Git, gitune: Gitune) -> None:
    fingerprint = json.loads(gitune("dataset", "build", "qa", "--json").out)["fingerprint"]
    repository.write(TRAIN, jsonl([*EXAMPLES, example("second", "intent_0")]))
    found = json.loads(gitune("dataset", "diff", "qa", "v1", fingerprint[:10], "--json").out)
    assert (found["added"], found["removed"], found["changed"], found["categories"]) == ([], [], [], {})
    assert found["before"]["fingerprint"] == found["after"]["fingerprint"] == fingerprint
    assert users(json.loads(gitune("dataset", "diff", "qa", fingerprint, "--json").out), "added") == ["second"]


def test_checkout_index_and_refs_stay_as_they_are(repository: Repository, git: Git, gitune: Gitune) -> None:
    hook = repository.write(".git/hooks/post-index-change", "#!/bin/sh\ntouch hook-ran\n")
    hook.chmod(0o755)
    repository.write(TRAIN, jsonl(EXAMPLES[2:]))
    git("add", TRAIN)
    repository.write(TRAIN, jsonl(EXAMPLES[3:]))
    repository.write("untracked.txt", "mine")
    (repository.root / "hook-ran").unlink()
    before = (repository.root / ".git/index").read_bytes(), git("for-each-ref"), git("worktree", "list")
    assert gitune("dataset", "diff", "qa", "v1..HEAD").code == 0
    assert gitune("dataset", "diff", "qa").code == 0
    after = (repository.root / ".git/index").read_bytes(), git("for-each-ref"), git("worktree", "list")
    assert before == after
    assert (repository.root / TRAIN).read_text() == jsonl(EXAMPLES[3:])
    assert not (repository.root / "hook-ran").exists()
    assert not (repository.root / ".gitune").exists()


def test_all_that_git_holds_is_read(repository: Repository, git: Git, gitune: Gitune) -> None:
    """Also what `git archive` would leave out, and below a folder of a larger repository."""
    repository.write(".gitattributes", "data/** export-ignore\n")
    git.commit("attributes")
    assert gitune("dataset", "diff", "qa", "HEAD").code == 0


def test_a_project_in_a_folder_of_a_repository(
    repository: Repository, gitune: Gitune, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    git = Git(repository.root.parent)
    (repository.root.parent / "early.txt").write_text("before there was a project")
    git("add", "early.txt")
    git("commit", "--quiet", "-m", "early")
    git("tag", "early")
    repository.add_agent("qa", examples=EXAMPLES)
    git.commit("first")
    repository.write(TRAIN, jsonl(EXAMPLES[1:]))
    assert "\n0 added, 1 removed, 0 changed\n" in gitune("dataset", "diff", "qa", "HEAD").out
    result = gitune("dataset", "diff", "qa", "early")
    assert (result.code, "error: no folder 'repository/' at " in result.err) == (1, True), result.err


def test_the_answer_on_a_terminal(repository: Repository, git: Git, gitune: Gitune) -> None:
    moved = [example("which parcel number 1 is it", "intent_9"), *EXAMPLES[2:]]
    repository.write(
        TRAIN, jsonl([*moved, *(example(f"new \x1b[31m {i} " + "so " * 40, "intent_0") for i in range(12))])
    )
    result = gitune("dataset", "diff", "qa", "v1")
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[0].startswith("before: v1 (")
    assert lines[0].endswith("): 30 examples, dataset " + lines[0][-12:])
    assert lines[1].startswith("after:  the files now: 41 examples, dataset ")
    assert "12 added, 1 removed, 1 changed" in lines
    assert "+ and 2 more: --json shows all" in lines
    assert "~ which parcel number 1 is it => intent_1 => intent_9" in lines
    assert [line.split() for line in lines[-3:]] == [
        ["intent_0", "10", "21", "+11", "33.3%", "→", "51.2%"],
        ["intent_1", "10", "9", "-1", "33.3%", "→", "22.0%"],
        ["intent_9", "0", "1", "+1", "0.0%", "→", "2.4%"],
    ]
    assert max(map(cell_len, lines)) <= 80
    assert "\x1b" not in result.out


ERRORS: dict[str, tuple[tuple[str, ...], str]] = {
    "misspelt": (("mian",), "error: no dataset and no git revision 'mian' here\nhint: did you mean 'main'?"),
    "before the first": (("HEAD~9",), "error: no dataset and no git revision 'HEAD~9' here\nhint: the history of"),
    "misspelt in a range": (("v1..mian",), "hint: did you mean 'main'?"),
    "no agent there": (("empty",), "error: no agent 'qa' at empty ("),
    "misnamed there": (("misnamed",), "hint: did you mean 'qaa'?"),
    "two names of one side": (("v1..main", "main"), "error: 'v1..main' names both sides already"),
    "nothing in common": (("main...empty",), "have no commit in common\nhint: write two dots"),
    "wrong then": (("wrong",), "wrong:agents/qa/data/train.jsonl:2: not valid JSON"),
    "ignored then": (
        ("ignored",),
        "ignored:agents/qa/agent.yaml:4: no such file: 'data/train.jsonl'\n  hint: git does not hold it there",
    ),
    "outside": (("outside",), "outside:agents/qa/agent.yaml:4: '../../../x.jsonl' is outside the repository"),
}


@pytest.fixture
def history(repository: Repository, git: Git) -> Repository:
    """A branch for each thing that can be wrong with a revision."""
    git("checkout", "--quiet", "--orphan", "empty")
    git("rm", "--quiet", "-r", "-f", "agents")
    git.commit("no agents")
    git("checkout", "--quiet", "-b", "misnamed")
    repository.add_agent("qaa")
    git.commit("another name")
    outside = agent_yaml(dataset={"sources": [{"path": "../../../x.jsonl"}]})
    changes: dict[str, tuple[str, str]] = {
        "wrong": (TRAIN, jsonl(EXAMPLES[:1]) + "nonsense\n"),
        "ignored": (".gitignore", ".gitune/\ndata/\n"),
        "outside": ("agents/qa/agent.yaml", yaml.safe_dump(outside, sort_keys=False)),
    }
    for branch, (file, content) in changes.items():
        git("checkout", "--quiet", "-b", branch, "main")
        repository.write(file, content)
        if branch == "ignored":
            git("rm", "--quiet", "--cached", TRAIN)
        git.commit(branch)
        (repository.root / TRAIN).unlink()
        git("checkout", "--quiet", "--force", "main")
    return repository


def test_a_side_that_cannot_be_had_is_one_clear_error(history: Repository, gitune: Gitune) -> None:
    for name, (arguments, expected) in ERRORS.items():
        result = gitune("dataset", "diff", "qa", *arguments)
        assert (result.code, expected in result.err) == (1, True), (name, result.err)
        assert "Traceback" not in result.err
        assert result.out == ""


def test_a_shallow_clone_says_what_to_do(git: Git, tmp_path: Path, gitune: Gitune, monkeypatch: Any) -> None:
    git.commit("second")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--depth=1", git.root.as_uri(), str(clone)], check=True)
    monkeypatch.chdir(clone)
    result = gitune("dataset", "diff", "qa", "HEAD~1")
    assert (result.code, "\nhint: this clone is shallow: git fetch --unshallow" in result.err) == (1, True), result.err
    assert gitune("dataset", "diff", "qa", "HEAD").code == 0
    result = gitune("dataset", "diff", "qa", "v1")
    assert (result.code, "\nhint: this clone is shallow" in result.err) == (1, True), result.err
    git("branch", "other")
    subprocess.run(["git", "fetch", "--quiet", "origin", "other:refs/remotes/origin/other"], cwd=clone, check=True)
    assert "\nhint: did you mean 'origin/other'?" in gitune("dataset", "diff", "qa", "other").err


def test_without_git(repository: Repository, gitune: Gitune, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.add_agent("qa", examples=EXAMPLES)
    result = gitune("dataset", "diff", "qa", "main")
    assert (result.code, "no git revision 'main' here\nhint: a branch, a tag" in result.err) == (1, True)
    first = json.loads(gitune("dataset", "build", "qa", "--json").out)["fingerprint"]
    monkeypatch.setenv("PATH", "")
    assert gitune("dataset", "diff", "qa", first).code == 0
    assert gitune("dataset", "diff", "qa", "main").code == 1


def test_a_remote_source_is_said_to_be_of_today(repository: Repository, git: Git, gitune: Gitune) -> None:
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").pipe("/bucket/train.jsonl", jsonl(EXAMPLES).encode())
    remote = agent_yaml(dataset={"sources": [{"path": "memory://bucket/train.jsonl"}]})
    repository.write("agents/qa/agent.yaml", yaml.safe_dump(remote))
    git.commit("remote")
    result = gitune("dataset", "diff", "qa", "HEAD")
    said = "note: memory://bucket/train.jsonl has no sha256: read as it is today, not as it was at HEAD\n"
    assert (result.code, said in result.out) == (0, True), result.err


# --- the law: what is added and removed leads from one side to the other ----------------------------------------------

LINE = st.builds(
    lambda user, assistant: canonical_json(example(user, assistant)), st.sampled_from("abc"), st.sampled_from("xyz")
)


@given(st.lists(LINE, max_size=12), st.lists(LINE, max_size=12))
def test_the_comparison_leads_from_one_side_to_the_other(before: list[str], after: list[str]) -> None:
    found = compare(before, after)
    lost, won = zip(*found.changed, strict=True) if found.changed else ((), ())
    assert Counter(before) - Counter([*found.removed, *lost]) + Counter([*found.added, *won]) == Counter(after)
    back = compare(after, before)
    assert (back.added, back.removed) == (found.removed, found.added)
    assert sorted(back.changed) == sorted((new, old) for old, new in found.changed)
    sides = [Side(name, name * 64, tuple(lines)) for name, lines in (("a", before), ("b", after))]
    assert comparison_text(found, *sides).startswith("before: a: ")


def test_texts_are_no_categories() -> None:
    before = [canonical_json(example(f"q{i}", f"a text of its own {i}")) for i in range(20)]
    assert compare(before, before[:10]).categories == {}
