"""The Dataset resource: the files of a dataset, named by their content."""

from __future__ import annotations

from typing import Any

from pulumi import Input, ResourceOptions, dynamic

from gitune.dataset import Dataset as BuiltDataset
from gitune.dataset import build_dataset, dataset_folder, write_dataset
from gitune.dataset.artifact import MANIFEST_FILE
from gitune.errors import UserError
from gitune.resources.host import end_with_engine, open_project
from gitune.spec import load_agents


class DatasetProvider(dynamic.ResourceProvider):
    """create writes the files; read looks whether they are still there; delete keeps them, a job may read them."""

    serialize_as_secret_always = False

    def configure(self, _req: dynamic.ConfigureRequest) -> None:
        end_with_engine()

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.DiffResult:
        changed = any(_olds.get(name) != _news.get(name) for name in ("fingerprint", "train", "validation"))
        return dynamic.DiffResult(changes=changed)

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        _write(props)
        return dynamic.CreateResult(props["agent"], props)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.UpdateResult:
        _write(_news)
        return dynamic.UpdateResult(_news)

    def read(self, id_: str, props: dict[str, Any]) -> dynamic.ReadResult:
        folder = dataset_folder(open_project(props["stack"]).root, props["fingerprint"])
        if not (folder / MANIFEST_FILE).is_file():
            props = {**props, "fingerprint": ""}  # the files are gone: different from what is wanted, so written again
        return dynamic.ReadResult(id_, props, props)


def _write(props: dict[str, Any]) -> None:
    project = open_project(props["stack"])
    spec = next(spec for spec in load_agents(project.root) if spec.name == props["agent"])
    built = build_dataset(spec, project.root)
    if built.fingerprint != props["fingerprint"]:
        raise UserError(f"the data of agent '{spec.name}' changed while the engine ran", hint="run: gitune up")
    write_dataset(built, project.root)


class Dataset(dynamic.Resource, module="gitune", name="Dataset"):
    """One agent's dataset."""

    def __init__(self, agent: str, stack: str, dataset: BuiltDataset, opts: ResourceOptions) -> None:
        props: dict[str, Input[Any]] = {
            "agent": agent,
            "stack": stack,
            "fingerprint": dataset.fingerprint,
            "train": len(dataset.train),
            "validation": len(dataset.validation),
        }
        super().__init__(DatasetProvider(), agent, props, opts)
