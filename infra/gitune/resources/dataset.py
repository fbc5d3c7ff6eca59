"""The Datasets resource: the files of all datasets of a stack, named by their content, here and in the store."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pulumi import Input, dynamic

from gitune.dataset.folder import dataset_folder
from gitune.dataset.manifest import read_manifest
from gitune.dataset.store import Store
from gitune.errors import UserError
from gitune.project import Project
from gitune.resources.host import end_with_engine, open_project, telling_the_engine
from gitune.spec import load_agents

_INPUTS = ("fingerprints", "store")
_STORE_THREADS = 8


class DatasetsProvider(dynamic.ResourceProvider):
    """create writes the files and publishes them; read looks whether they are still in both places.

    delete keeps them: a job may read them, and a lock may name them.
    """

    serialize_as_secret_always = False

    def configure(self, _req: dynamic.ConfigureRequest) -> None:
        end_with_engine()

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.DiffResult:
        return dynamic.DiffResult(changes=any(_olds.get(name) != _news.get(name) for name in _INPUTS))

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        _publish(props["fingerprints"], open_project(props["stack"]))
        return dynamic.CreateResult("datasets", props)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.UpdateResult:
        known = _olds["fingerprints"] if _olds["store"] == _news["store"] else {}
        wanted: Mapping[str, str] = _news["fingerprints"]
        changed = {agent: fingerprint for agent, fingerprint in wanted.items() if known.get(agent) != fingerprint}
        _publish(changed, open_project(_news["stack"]))
        return dynamic.UpdateResult(_news)

    def read(self, id_: str, props: dict[str, Any]) -> dynamic.ReadResult:
        # What is gone differs from what is wanted, so the next step makes it again.
        project = open_project(props["stack"])
        lost = _lost(set(props["fingerprints"].values()), props["store"], project)
        kept = {
            agent: "" if fingerprint in lost else fingerprint for agent, fingerprint in props["fingerprints"].items()
        }
        props = {**props, "fingerprints": kept}
        return dynamic.ReadResult(id_, props, props)


class DatasetProvider(dynamic.ResourceProvider):
    """Of stacks in which each agent had a Dataset of its own, before 2026-11-23: it goes, its files stay."""

    serialize_as_secret_always = False


def _lost(fingerprints: Collection[str], published: str, project: Project) -> set[str]:
    """What is no longer here, or no longer in the store. No answer of the store is not an answer."""
    lost = {name for name in fingerprints if name and read_manifest(dataset_folder(project.root, name)) is None}
    store = Store.of(project)
    if store.url != published:
        return lost  # published elsewhere: that differs already
    asked = [name for name in fingerprints if name and name not in lost]
    with ThreadPoolExecutor(_STORE_THREADS) as threads:
        answers = threads.map(lambda name: _is_published(name, store), asked)
        return lost | {name for name, there in zip(asked, answers, strict=True) if not there}


def _is_published(fingerprint: str, store: Store) -> bool:
    try:
        return store.holds(fingerprint)
    except UserError:
        return True


def _publish(fingerprints: Mapping[str, str], project: Project) -> None:
    """Write and publish the datasets of agents, those that are there already excepted."""
    with telling_the_engine():
        _write(fingerprints, project)
        store = Store.of(project)
        folders = [dataset_folder(project.root, fingerprint) for fingerprint in sorted(set(fingerprints.values()))]
        with ThreadPoolExecutor(_STORE_THREADS) as threads:
            for _ in threads.map(store.publish, folders):
                pass


def _write(fingerprints: Mapping[str, str], project: Project) -> None:
    from gitune.dataset import build_dataset, write_dataset  # much to import, and mostly all is there

    missing = {
        agent: fingerprint
        for agent, fingerprint in fingerprints.items()
        if read_manifest(dataset_folder(project.root, fingerprint)) is None
    }
    for spec in load_agents(project.root) if missing else ():
        if spec.name not in missing:
            continue
        built = build_dataset(spec, project.root)
        if built.fingerprint != missing[spec.name]:
            raise UserError(f"the data of agent '{spec.name}' changed while the engine ran", hint="run: gitune up")
        write_dataset(spec, built, project.root)


class Datasets(dynamic.Resource, module="gitune", name="Datasets"):
    """All agents' datasets, by agent."""

    def __init__(self, fingerprints: Mapping[str, str], project: Project) -> None:
        props: dict[str, Input[Any]] = {
            "stack": project.stack.name,
            "store": Store.of(project).url,
            "fingerprints": dict(fingerprints),
        }
        super().__init__(DatasetsProvider(), "datasets", props)
