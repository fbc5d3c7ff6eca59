"""Real git repositories with locks in them, as a team makes them."""

from __future__ import annotations

import os
import subprocess
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from gitune.lock import Lock, parse_lock
from tests.test_lock import LOCK

WHO = "Ada Byron <ada@example.org>"


class Git:
    """Real git in a repository of its own. Every commit is one hour after the one before."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = 1_793_000_000
        root.mkdir(parents=True, exist_ok=True)
        self("init", "--quiet", "--initial-branch=main")

    def __call__(self, *arguments: str, **environment: str) -> str:
        done = self.attempt(*arguments, **environment)
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout.strip()

    def attempt(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """One command that may fail."""
        name, _, email = WHO.rstrip(">").partition(" <")
        who = {"GIT_COMMITTER_NAME": name, "GIT_COMMITTER_EMAIL": email, "GIT_COMMITTER_DATE": f"{self.now} +0000"}
        who |= {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": email, "GIT_AUTHOR_DATE": f"{self.now} +0000"}
        return subprocess.run(
            ["git", "-c", "commit.gpgsign=false", "-c", "core.hooksPath=/dev/null", *arguments],
            cwd=self.root,
            env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, **who, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def commit(self, message: str, *, author: str = WHO, **environment: str) -> str:
        self.now += 3600
        self("add", "--all")
        self("commit", "--quiet", "--allow-empty", f"--author={author}", "-m", message, **environment)
        return self("rev-parse", "HEAD")

    def merge(self, branch: str, message: str, *, author: str = WHO) -> str:
        self.now += 3600
        self("merge", "--quiet", "--no-ff", "--no-commit", branch)
        return self.commit(message, author=author)

    def lock(self, version: str, agent: str = "support", **changes: Any) -> str:
        """Write a lock and return its text."""
        text = lock_text(version, agent, **changes)
        path = self.root / "agents" / agent / "model.lock.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return text


def gitune_on_github(folder: Path) -> dict[str, str]:
    """What git must have in its environment, so that a repository below `folder`, with gitune's tag, stands for it."""
    origin = Git(folder / "OWNER/gitune")
    origin.commit("gitune")
    origin("tag", f"v{metadata.version('gitune')}")
    redirect = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{folder}/.insteadOf"}
    return {**redirect, "GIT_CONFIG_VALUE_0": "https://github.com/", "GITUNE_PROGRAM": "gitune"}


def lock_text(version: str, agent: str = "support", **changes: Any) -> str:
    """A lock whose model and dataset are of its version, unless `changes` say otherwise."""
    own = {"model_id": f"local:{agent}-{version}", "dataset": {"fingerprint": f"{version:0>64}", "examples": 456}}
    lock = replace(LOCK, agent=agent, version=version, **{**own, **changes})
    return "# Written by gitune.\n" + yaml.safe_dump(asdict(lock), sort_keys=False)


def lock_in(root: Path, agent: str = "support") -> Lock:
    """What the working tree says."""
    return parse_lock((root / "agents" / agent / "model.lock.yaml").read_bytes(), "lock")
