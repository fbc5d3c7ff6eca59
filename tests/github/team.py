"""A repository on GitHub, as a job that checked it out sees it: a bare origin, a clone, and the API over it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import REPOSITORY, Repository, Result
from tests.repositories import Git
from tests.servers.github import NAME, TOKEN, GitHubServer


@dataclass
class Team:
    """The repository, and what a job does in it."""

    folder: Path
    server: GitHubServer
    git: Git
    gitune: Callable[..., Result]

    @property
    def root(self) -> Path:
        return self.git.root

    def push(self, message: str, branch: str = "main") -> str:
        """Commit everything and push it."""
        commit = self.git.commit(message)
        self.git("push", "--quiet", "--force", "origin", f"HEAD:{branch}")
        return commit

    def event(self, **facts: Any) -> None:
        """What started the job."""
        (self.folder / "event.json").write_text(json.dumps(facts))

    def run(self, *arguments: str) -> Result:
        """`gitune github ...`, which must succeed."""
        done = self.gitune("github", *arguments)
        assert done.code == 0, done.err
        return done

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").out)

    def at(self, branch: str, file: str) -> str:
        """A file of a branch of the origin."""
        return self.server.git("show", f"{branch}:{file}") + "\n"

    def branches(self) -> set[str]:
        return set(self.server.git("for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads").split())

    def pulls(self, state: str = "open") -> list[Mapping[str, Any]]:
        return [one for one in self.server.texts.pulls.values() if one["state"] == state]


def make_team(folder: Path, server: GitHubServer, gitune: Callable[..., Result]) -> Team:
    """Stacks and nothing else."""
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", server.origin], check=True)
    git = Git(folder / "clone")
    git("remote", "add", "origin", str(server.origin))
    repository = Repository(git.root)
    for name in ("Pulumi.yaml", "Pulumi.training.yaml", "Pulumi.production.yaml"):
        shutil.copy(REPOSITORY / name, git.root / name)
    repository.write(".gitignore", ".gitune/\n")
    team = Team(folder, server, git, gitune)
    team.event()
    return team


def environment(team: Team) -> dict[str, str]:
    """As GitHub sets it for a job."""
    return {
        "GITHUB_REPOSITORY": NAME,
        "GITHUB_API_URL": team.server.url,
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_RUN_ID": "77",
        "GITHUB_EVENT_PATH": str(team.folder / "event.json"),
        "GITHUB_TOKEN": TOKEN,
        "GITUNE_GITHUB_PAUSE": "0",
    }
