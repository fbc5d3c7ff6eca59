"""`gitune history` and `gitune show`: what git says of the locks, through real repositories."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gitune.history import history_of_folder, pull_request_of
from tests.conftest import Repository, Result
from tests.repositories import Git, lock_text

Gitune = Callable[..., Result]
GRACE = "Grace Hopper <grace@example.org>"
LOCK_FILE = "agents/support/model.lock.yaml"


@pytest.fixture
def git(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Git:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    found = Git(repository.root)
    found.commit("a project without locks")
    return found


def rows(gitune: Gitune, *arguments: str) -> list[dict[str, Any]]:
    result = gitune("history", *arguments, "--json")
    assert result.code == 0, result.err
    entries: list[dict[str, Any]] = json.loads(result.out)["entries"]
    return entries


def told(entries: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(entry["version"], entry["kind"], entry["pull_request"]) for entry in entries]


def test_who_wrote_who_merged_and_by_which_pull_request(git: Git, gitune: Gitune) -> None:
    git.lock("1.0.0")
    direct = git.commit("Lock support 1.0.0")
    git("checkout", "--quiet", "-b", "next")
    git.lock("1.1.0")
    git.commit("try", author=GRACE)
    git.lock("1.1.0", verdict={"outcome": "pass", "reasons": []})
    git.commit("Lock support 1.1.0", author=GRACE)
    git("checkout", "--quiet", "main")
    git.commit("something else on main")
    merged = git.merge("next", "Merge pull request #12 from team/next\n\nLock support 1.1.0")
    git.lock("1.2.0")
    hub = {"GIT_COMMITTER_NAME": "GitHub", "GIT_COMMITTER_EMAIL": "noreply@github.com"}
    squashed = git.commit("Lock support 1.2.0 (#13)", author=GRACE, **hub)
    newest, middle, oldest = rows(gitune)
    assert told([newest, middle, oldest]) == [("1.2.0", "new", "#13"), ("1.1.0", "new", "#12"), ("1.0.0", "new", None)]
    assert [entry["commit"] for entry in (newest, middle, oldest)] == [squashed, merged, direct]
    assert (newest["author"]["name"], newest["merged_by"]) == ("Grace Hopper", None)
    assert (middle["author"]["name"], middle["merged_by"]["name"]) == ("Grace Hopper", "Ada Byron")
    assert (oldest["author"]["email"], oldest["merged_by"]["email"]) == ("ada@example.org", "ada@example.org")
    assert middle["replaced"] == newest["when"]
    assert (newest["replaced"], newest["rolled_back"]) == (None, None)
    facts = {name: newest[name] for name in ("base_model", "provider", "model_id", "accuracy", "verdict", "cost_usd")}
    assert facts == {
        "base_model": "smollm2-135m-instruct",
        "provider": "local",
        "model_id": "local:support-1.2.0",
        "accuracy": 0.9,
        "verdict": "pass",
        "cost_usd": 0.0,
    }
    assert newest["dataset"] == {"fingerprint": f"{'1.2.0':0>64}", "examples": 456}


def test_a_reverted_lock_is_a_rollback_and_a_reverted_revert_rolls_forward(git: Git, gitune: Gitune) -> None:
    git.lock("1.0.0")
    git.commit("one")
    git.lock("1.1.0")
    git.commit("two (#2)")
    git("revert", "--no-edit", "HEAD")
    back = git("rev-parse", "HEAD")
    git("revert", "--no-edit", "HEAD")
    entries = rows(gitune, "support")
    kinds = [("1.1.0", "roll forward"), ("1.0.0", "rollback"), ("1.1.0", "new"), ("1.0.0", "new")]
    assert [(entry["version"], entry["kind"]) for entry in entries] == kinds
    assert entries[1]["commit"] == back
    assert entries[1]["pull_request"] is None  # the subject quotes another's
    assert entries[2]["rolled_back"] == entries[2]["replaced"] == entries[1]["when"]
    assert [entry["rolled_back"] for entry in (entries[0], entries[1], entries[3])] == [None] * 3
    shown = gitune("history", "support").out
    assert re.search(r"1\.1\.0 +new .*rolled back", shown)


def test_an_earlier_model_under_a_new_number_is_a_rollback_too(git: Git, gitune: Gitune) -> None:
    git.lock("1.0.0")
    git.commit("one")
    git.lock("1.1.0")
    git.commit("two")
    git.lock("1.1.1", model_id="local:support-1.0.0")
    git.commit("three")
    (newest, *_) = rows(gitune)
    assert (newest["version"], newest["kind"], newest["returns_to"]) == ("1.1.1", "rollback", "1.0.0")
    assert "rollback to 1.0.0" in gitune("history").out


def test_judged_anew_deleted_and_restored(git: Git, gitune: Gitune) -> None:
    first = git.lock("1.0.0")
    git.commit("one")
    git.lock("1.0.0", verdict={"outcome": "pass", "reasons": ["again"]})
    git.commit("judged anew")
    git("rm", "--quiet", LOCK_FILE)
    git.commit("the agent leaves", author=GRACE)
    (git.root / LOCK_FILE).parent.mkdir(parents=True)
    (git.root / LOCK_FILE).write_text(first)
    git.commit("and comes back")
    entries = rows(gitune)
    kinds = [("1.0.0", "restored"), (None, "deleted"), ("1.0.0", "update"), ("1.0.0", "new")]
    assert [(entry["version"], entry["kind"]) for entry in entries] == kinds
    assert entries[1]["author"]["name"] == "Grace Hopper"
    assert entries[2]["replaced"] == entries[3]["replaced"] == entries[1]["when"]


def test_rebased_work_keeps_its_author_and_tells_when_it_came(git: Git, gitune: Gitune) -> None:
    git("checkout", "--quiet", "-b", "side")
    git.lock("1.0.0")
    git.commit("Lock support 1.0.0", author=GRACE)
    git("checkout", "--quiet", "main")
    git.commit("main goes on")
    git.now += 86400
    git("checkout", "--quiet", "side")
    git("rebase", "--quiet", "main")
    git("checkout", "--quiet", "main")
    git("merge", "--quiet", "--ff-only", "side")
    (entry,) = rows(gitune)
    assert (entry["author"]["name"], entry["merged_by"]["name"]) == ("Grace Hopper", "Ada Byron")
    assert entry["when"] == git("log", "-1", "--format=%cI", "--date=iso-strict").replace("Z", "+00:00")


def test_the_side_that_did_not_win_is_not_history(git: Git, gitune: Gitune) -> None:
    """Two branches lock; the merge settles the conflict by a third text, or takes ours."""
    git.lock("1.0.0")
    git.commit("one")
    git("checkout", "--quiet", "-b", "side")
    git.lock("1.1.0", model_id="local:theirs")
    git.commit("theirs", author=GRACE)
    git("checkout", "--quiet", "main")
    git.lock("1.1.0", model_id="local:ours")
    git.commit("ours")
    git("merge", "--quiet", "--strategy=ours", "--no-edit", "side")
    assert [entry["model_id"] for entry in rows(gitune)] == ["local:ours", "local:support-1.0.0"]
    git("checkout", "--quiet", "-b", "conflict", "main~1")
    git.attempt("merge", "--no-ff", "side")
    git.lock("1.2.0")
    git.commit("Merge pull request #5 from team/side")
    newest = rows(gitune)[0]
    assert (newest["version"], newest["author"]["name"], newest["pull_request"]) == ("1.2.0", "Ada Byron", "#5")


def test_a_person_with_two_names_is_one(git: Git, gitune: Gitune) -> None:
    git.lock("1.0.0")
    git.commit("one", author="grace <old@example.org>")
    (git.root / ".mailmap").write_text("Grace Hopper <grace@example.org> <old@example.org>\n")
    git.commit("who is who")
    assert rows(gitune)[0]["author"] == {"name": "Grace Hopper", "email": "grace@example.org"}


def test_locks_of_older_formats_and_broken_ones(git: Git, gitune: Gitune) -> None:
    path = git.root / LOCK_FILE
    path.parent.mkdir(parents=True)
    large = f"job: {{cost_usd: 1{'0' * 400}}}\n"
    texts = (
        "version: 0.1.0\nmodel_id: old:1\n",
        "version: 0.2.0\nmodel_id: old:2\ndataset: unknown\nbenchmark: {accuracy: high}\nverdict: [1]\nextra: 1\n"
        + large,
        "<<<<<<< HEAD\nversion: 0.2.0\n=======\n",
        "just text\n",
        "",
    )
    for text in texts:
        path.write_text(text)
        git.commit("a lock")
    path.write_bytes(b"\xff\xfe")
    git.commit("bytes")
    git.lock("1.0.0")
    git.commit("today's")
    entries = rows(gitune)
    kinds = ["new", *["unreadable"] * 4, "new", "new"]
    assert [entry["kind"] for entry in entries] == kinds
    assert [entry["model_id"] for entry in entries if entry["kind"] == "new"] == [
        "local:support-1.0.0",
        "old:2",
        "old:1",
    ]
    assert entries[5]["accuracy"] is entries[5]["verdict"] is entries[5]["dataset"]["fingerprint"] is None
    assert entries[5]["replaced"] == entries[0]["when"]
    shown = gitune("history")
    assert shown.code == 0
    assert shown.out.count("cannot be read:") == 4
    assert gitune("show", "support@0.2.0").code == gitune("history", "--markdown").code == 0


def test_a_project_in_a_folder_of_a_repository(
    repository: Repository, gitune: Gitune, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = Git(repository.root.parent)
    repository.write(LOCK_FILE, lock_text("1.0.0"))
    git.commit("one")
    repository.write("../agents/other/model.lock.yaml", lock_text("1.0.0"))
    git.commit("not of this project")
    assert [entry["agent"] for entry in rows(gitune)] == ["support"]


def test_a_shallow_clone_says_what_is_missing(
    git: Git, gitune: Gitune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        git.lock(version)
        git.lock("1.0.0", "qa")
        git.commit(f"Lock {version} (#{version[2]})", author=GRACE)
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--depth=2", git.root.as_uri(), str(clone)], check=True)
    monkeypatch.chdir(clone)
    newest, *earlier = rows(gitune)
    assert told([newest]) == [("1.2.0", "new", "#2")]
    assert [(e["agent"], e["version"], e["kind"], e["author"], e["pull_request"]) for e in earlier] == [
        ("qa", "1.0.0", "earlier", None, None),
        ("support", "1.1.0", "earlier", None, None),
    ]
    shown = gitune("history", "support")
    assert shown.code == 0
    assert "this clone is shallow: who brought the oldest lock" in shown.out
    assert "git fetch --unshallow" in shown.out
    result = gitune("show", "support@1.0.0")
    assert (result.code, "hint: this clone is shallow" in result.err) == (1, True)
    assert "there by " in gitune("show", "support@1.1.0").out


def test_what_is_misspelt_gets_a_hint(git: Git, gitune: Gitune) -> None:
    git.lock("1.0.0")
    git.lock("2.0.0", "legal")
    git.commit("two agents")
    expected = {
        ("history", "suport"): "error: git knows no lock of an agent 'suport'\nhint: did you mean 'support'?\n",
        ("history", "x"): "error: git knows no lock of an agent 'x'\nhint: known: legal, support\n",
        ("show", "support@1.0.1"): "error: support has no version 1.0.1 in git\nhint: did you mean '1.0.0'?\n",
        ("show", "support@9"): "error: support has no version 9 in git\nhint: known: 1.0.0\n",
        ("history", "--json", "--markdown"): "error: --json and --markdown exclude each other\n",
    }
    for arguments, said in expected.items():
        result = gitune(*arguments)
        assert (result.code, result.err.startswith(said), result.out) == (1, True, ""), (arguments, result.err)


def test_without_locks_or_without_git(repository: Repository, gitune: Gitune) -> None:
    assert gitune("history").out.endswith("no lock below agents/ is committed\n")
    result = gitune("show", "support")
    assert (result.code, "\nhint: no lock below agents/ was ever committed" in result.err) == (1, True)
    Git(repository.root)
    assert rows(gitune) == []


def test_show_tells_everything_of_a_version(git: Git, gitune: Gitune) -> None:
    git.lock("1.0.0")
    git.commit("one")
    git.lock("1.1.0")
    git.commit("two (#2)")
    shown = gitune("show", "support@v1.0.0").out
    assert "  hyperparameters.learning_rate: 0.004\n" in shown
    assert "\nreplaced: 2026-" in shown
    assert gitune("show", "support").out.startswith("support 1.1.0\n")
    data = json.loads(gitune("show", "support@1.0.0", "--json").out)
    assert data["lock"] == yaml.safe_load(lock_text("1.0.0"))
    assert [entry["kind"] for entry in data["entries"]] == ["new"]
    assert "| hyperparameters&#46;epochs | 3 |" in gitune("show", "support", "--markdown").out


def test_limit_and_markdown(git: Git, gitune: Gitune) -> None:
    for number in range(4):
        git.lock(f"1.{number}.0", base_model="a|b@team")
        git.commit(f"one more (#{number})", author="\x1b[31mEve|x <eve@example.org>")
    shown = gitune("history", "--limit", "2")
    assert "\n2 older: --limit 4 shows all\n" in shown.out
    assert "\x1b" not in shown.out
    table = gitune("history", "--limit", "1", "--markdown").out.splitlines()
    assert len({line.count("|") for line in table[:3]}) == 1
    assert "@" not in table[2]
    assert "| #3 |" in table[2]


def test_a_narrow_terminal_has_all_of_it(git: Git, gitune: Gitune, monkeypatch: pytest.MonkeyPatch) -> None:
    git.lock("1.0.0")
    git.commit("one (#1)")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", gitune("history").out).splitlines()
    assert lines[0] == "support 1.0.0 new 2026-10-26 Ada Byron #1"
    assert "accuracy 0% → 90%, verdict pass, cost $0.00" in " ".join(map(str.strip, lines))
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("message", "pull_request"),
    [
        ("Merge pull request #12 from team/next\n\nLock", "#12"),
        ("Lock support (#13)\n\n* one (#11)", "#13"),
        ('Revert "Lock support (#13)" (#15)', "#15"),
        ('Revert "Lock support (#13)"', None),
        ("Merge branch 'x' into 'main'\n\nLock\n\nSee merge request team/agents!7", "!7"),
        ("Merged in next (pull request #8)\n\nLock", "#8"),
        ("Merged PR 9: Lock", "#9"),
        ("Lock\n\nPull-Request: https://git.example.org/team/agents/pulls/21", "#21"),
        ("Lock, see #4", None),
        ("", None),
    ],
)
def test_the_pull_request_of_a_message(message: str, pull_request: str | None) -> None:
    assert pull_request_of(message) == pull_request


def test_five_hundred_lock_commits(repository: Repository, gitune: Gitune) -> None:
    git = Git(repository.root)
    stream = []
    for number in range(500):
        agent = f"a{number % 5}"
        text = lock_text(f"1.{number // 5}.0", agent).encode()
        message = f"Lock {agent} (#{number})".encode()
        parent = f"from :{number}\n" if number else ""
        who = f"Ada <ada@example.org> {1_700_000_000 + number} +0000"
        head = f"commit refs/heads/main\nmark :{number + 1}\nauthor {who}\ncommitter {who}\ndata {len(message)}\n"
        file = f"\n{parent}M 100644 inline agents/{agent}/model.lock.yaml\ndata {len(text)}\n"
        stream.append(head.encode() + message + file.encode() + text + b"\n")
    subprocess.run(["git", "fast-import", "--quiet"], input=b"".join(stream), cwd=git.root, check=True)
    began = sum(os.times()[:4])
    entries = rows(gitune)
    assert sum(os.times()[:4]) - began < 2, "seconds of CPU, git's among them"
    assert len(entries) == 500
    assert said_by_log(git.root) == [(e["commit"], e["agent"], e["version"], e["model_id"]) for e in entries]


# --- the law: history says what `git log -p` says ---------------------------------------------------------------------

STEP = st.sampled_from(["lock", "again", "other", "revert", "delete", "branch", "merge", "squash", "nothing"])


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(STEP, min_size=3, max_size=12))
def test_history_is_what_git_log_says(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    git = Git(tmp_path_factory.mktemp("law") / "r")
    git.commit("start")
    sides: list[str] = []
    for number, step in enumerate(steps):
        _make(git, number, step, sides)
    git("checkout", "--quiet", "main")
    history = history_of_folder(git.root, "agents")
    found = [(e.commit, e.agent, e.version, e.lock.model_id) for e in history.entries]
    assert found == said_by_log(git.root)
    for entry in history.entries:
        if entry.kind != "deleted":
            assert entry.blob == git("rev-parse", f"{entry.commit}:{entry.file}")
    for agent in history.agents:
        ours = history.of(agent)
        on_disk = (git.root / "agents" / agent / "model.lock.yaml").is_file()
        assert on_disk == (history.current(agent) is not None)
        for entry, earlier in itertools.pairwise(ours):
            assert entry.kind == "new" or entry.returns_to or entry.kind in ("update", "deleted")
            assert entry.kind == "update" or earlier.kind == "deleted" or earlier.replaced == entry.when


def _make(git: Git, number: int, step: str, sides: list[str]) -> None:
    """One commit, branch or merge; a step that the present state does not allow is an empty commit."""
    path = git.root / LOCK_FILE
    if step == "branch":
        sides.append(f"side{number}")
        git("checkout", "--quiet", "-b", sides[-1], "main")
        git.lock(f"1.{number}.0", "qa" if number % 2 else "support")
    elif step in ("merge", "squash") and sides:
        git("checkout", "--quiet", "main")
        kind = ("--squash",) if step == "squash" else ("--no-ff", "--no-commit")
        git.attempt("merge", "--quiet", "-X", "theirs", *kind, sides.pop())  # a lock deleted on one side: a conflict
    elif step == "revert" and "model.lock" in git("log", "-1", "--no-merges", "--format=", "--name-only", "HEAD^!"):
        git("revert", "--no-edit", "HEAD")
    elif step == "delete" and path.is_file():
        path.unlink()
    elif step in ("lock", "again", "other"):
        git.lock(f"1.{number if step == 'lock' else 0}.0", "qa" if step == "other" else "support")
    git.commit(f"{step} (#{number})")


def said_by_log(root: Path) -> list[tuple[str, str, str | None, str | None]]:
    """(commit, agent, version, model ID), newest first, from the text of `git log -p` with the whole files."""
    log = ["git", "log", "--first-parent", "-m", "-p", "-U100000", "--no-renames", "--no-color", "--format=commit %H"]
    text = subprocess.run([*log, "--", "agents"], cwd=root, capture_output=True, text=True, check=True).stdout
    found = []
    for block in re.split(r"^commit (?=[0-9a-f]{40}$)", text, flags=re.MULTILINE)[1:]:
        commit, _, patches = block.partition("\n")
        for patch in re.split(r"^diff --git ", patches, flags=re.MULTILINE)[1:]:
            agent = patch.split("/")[2]
            body = patch.partition("\n@@")[2].splitlines()[1:]
            after = yaml.safe_load("\n".join(line[1:] for line in body if line[:1] in ("+", " "))) or {}
            found.append((commit, agent, after.get("version"), after.get("model_id")))
    return found
