"""The Dataset resource: the files of a dataset, named by their content, here and in the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pulumi import Input, ResourceOptions, dynamic

from gitune.dataset import Dataset as BuiltDataset
from gitune.dataset import build_dataset, dataset_folder, write_dataset
from gitune.dataset.manifest import read_manifest
from gitune.dataset.store import Store
from gitune.errors import UserError
from gitune.project import Project
from gitune.resources.host import end_with_engine, open_project, telling_the_engine
from gitune.spec import load_agents

_INPUTS = ("fingerprint", "train", "validation", "published")


class DatasetProvider(dynamic.ResourceProvider):
    """create writes the files and publishes them; read looks whether they are still in both places.

    delete keeps them: a job may read them, and a lock may name them.
    """

    serialize_as_secret_always = False

    def configure(self, _req: dynamic.ConfigureRequest) -> None:
        end_with_engine()

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.DiffResult:
        return dynamic.DiffResult(changes=any(_olds.get(name) != _news.get(name) for name in _INPUTS))

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        _publish(props)
        return dynamic.CreateResult(props["agent"], props)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.UpdateResult:
        _publish(_news)
        return dynamic.UpdateResult(_news)

    def read(self, id_: str, props: dict[str, Any]) -> dynamic.ReadResult:
        # What is gone differs from what is wanted, so the next step makes it again.
        project = open_project(props["stack"])
        if read_manifest(dataset_folder(project.root, props["fingerprint"])) is None:
            props = {**props, "fingerprint": ""}
        elif _is_lost(props, Store.of(project)):
            props = {**props, "published": ""}
        return dynamic.ReadResult(id_, props, props)


def _is_lost(props: dict[str, Any], store: Store) -> bool:
    """Whether the store, asked once, says that it no longer has the dataset. No answer is not an answer."""
    if props.get("published") != store.url_of(props["fingerprint"]):
        return False  # published elsewhere: that differs already
    try:
        return not store.holds(props["fingerprint"])
    except UserError:
        return False


def _publish(props: dict[str, Any]) -> None:
    with telling_the_engine():
        project = open_project(props["stack"])
        Store.of(project).publish(_written(props, project))


def _written(props: dict[str, Any], project: Project) -> Path:
    folder = dataset_folder(project.root, props["fingerprint"])
    if read_manifest(folder) is not None:
        return folder
    spec = next(spec for spec in load_agents(project.root) if spec.name == props["agent"])
    built = build_dataset(spec, project.root)
    if built.fingerprint != props["fingerprint"]:
        raise UserError(f"the data of agent '{spec.name}' changed while the engine ran", hint="run: gitune up")
    return write_dataset(spec, built, project.root)


class Dataset(dynamic.Resource, module="gitune", name="Dataset"):
    """One agent's dataset."""

    def __init__(self, agent: str, dataset: BuiltDataset, project: Project, opts: ResourceOptions) -> None:
        props: dict[str, Input[Any]] = {
            "agent": agent,
            "stack": project.stack.name,
            "fingerprint": dataset.fingerprint,
            "train": len(dataset.train),
            "validation": len(dataset.validation),
            "published": Store.of(project).url_of(dataset.fingerprint),
        }
        super().__init__(DatasetProvider(), agent, props, opts)
