"""What main is now, which may be more than what is checked out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from github.GitTree import GitTree

from gitune.git import folders_at_head
from gitune.github.client import Client
from gitune.history import COMMITTED


class MainBranch:
    """The default branch, beside the commit that is checked out. Asks GitHub at most for two trees."""

    def __init__(self, client: Client, root: Path) -> None:
        self.name = client.repository.default_branch
        self.tip = client.repository.get_branch(self.name).commit.sha
        self._here = folders_at_head(root, COMMITTED)
        self._there: Mapping[str, str] = self._here
        if self.tip != client.context.commit:
            agents = _entries(client.repository.get_git_tree(self.tip)).get(COMMITTED)
            self._there = _entries(client.repository.get_git_tree(agents)) if agents else {}

    def tree(self, agent: str) -> str:
        """The hash of the agent's folder; empty where there is none."""
        return self._there.get(agent, "")

    def moved(self, agent: str) -> bool:
        """Whether the agent's folder is not what it is in the checkout."""
        return self.tree(agent) != self._here.get(agent, "")


def _entries(tree: GitTree) -> dict[str, str]:
    return {element.path: element.sha for element in tree.tree}
