"""The API, and a team's repository under it, which is the current folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Result
from tests.github.team import Team, environment, make_team
from tests.servers.github import GitHubServer


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gitune: Callable[..., Result]) -> Iterator[Team]:
    with GitHubServer(tmp_path / "origin.git") as server:
        found = make_team(tmp_path, server, gitune)
        for name in [name for name in os.environ if name.startswith(("GITHUB_", "GH_"))]:
            monkeypatch.delenv(name)
        for name, value in environment(found).items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(found.root)
        yield found
