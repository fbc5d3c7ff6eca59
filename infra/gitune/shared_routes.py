"""The routes file beside the datasets of a store that several machines share: a runner that is gone loses nothing.

The store's copy is the truth for whoever starts: what a killed run changed here and did not publish, the next pass
finds as drift of its own state, and does again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gitune.dataset.store import Store
from gitune.errors import UserError
from gitune.files import write_atomic
from gitune.project import Project

_FOLDER = "routes"


def is_shared(project: Project) -> bool:
    """Whether the stack deploys, and its store has an address outside of this checkout."""
    return "deployments" in project.stack.declare and "://" in project.stack.store


def fetch_routes(project: Project) -> bytes | None:
    """Have here what was published last, and return it; None where nothing ever was. Raises UserError for a store."""
    if not is_shared(project):
        return None
    published = Store.of(project).notes(_FOLDER).get(_name(project))
    if published is not None and published != _here(project):
        write_atomic(project.routes_file, published.decode("utf-8"))
    return published


@dataclass
class SharedRoutes:
    """The routes of one `up`: fetched at its start, published whenever they have changed."""

    project: Project
    known: bytes | None = None
    """What the store has, as far as is known."""

    def fetch(self, note: Callable[[str], None]) -> None:
        """Raises UserError where the store does not answer and nothing is here to go on with."""
        try:
            self.known = fetch_routes(self.project)
        except UserError as error:
            self.known = _here(self.project)
            if self.known is None:
                raise
            note(f"the routes are those of this machine: {error.message}")

    def publish(self) -> None:
        """Nothing where nothing has changed. Raises UserError for a store."""
        here = _here(self.project)
        if is_shared(self.project) and here is not None and here != self.known:
            Store.of(self.project).put_note(f"{_FOLDER}/{_name(self.project)}", here.decode("utf-8"))
            self.known = here


def _here(project: Project) -> bytes | None:
    return project.routes_file.read_bytes() if project.routes_file.is_file() else None


def _name(project: Project) -> str:
    return f"{project.stack.name}.json"
