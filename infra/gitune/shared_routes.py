"""The routes file beside the datasets of a store that several machines share: a runner that is gone loses nothing.

The store's copy is the truth for whoever starts: what a killed run changed here and did not publish, the next pass
finds as drift of its own state, and does again.
"""

from __future__ import annotations

from gitune.dataset.store import Store
from gitune.files import write_atomic
from gitune.project import Project

_FOLDER = "routes"


def is_shared(project: Project) -> bool:
    """Whether the stack deploys, and its store has an address outside of this checkout."""
    return "deployments" in project.stack.declare and "://" in project.stack.store


def fetch_routes(project: Project) -> None:
    """Have here what was published last; nothing where nothing ever was. Raises UserError for a store."""
    if not is_shared(project):
        return
    published = Store.of(project).notes(_FOLDER).get(_name(project))
    if published is not None and published != _here(project):
        project.routes_file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(project.routes_file, published.decode("utf-8"))


def publish_routes(project: Project) -> None:
    """Publish what is here, if it is something else. Raises UserError for a store."""
    if not is_shared(project):
        return
    here = _here(project)
    if here is not None and Store.of(project).notes(_FOLDER).get(_name(project)) != here:
        Store.of(project).put_note(f"{_FOLDER}/{_name(project)}", here.decode("utf-8"))


def _here(project: Project) -> bytes | None:
    return project.routes_file.read_bytes() if project.routes_file.is_file() else None


def _name(project: Project) -> str:
    return f"{project.stack.name}.json"
