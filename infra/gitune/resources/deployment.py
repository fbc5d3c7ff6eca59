"""The Deployment resource: an alias answers with a model."""

from __future__ import annotations

from typing import Any

from pulumi import Input, ResourceOptions, dynamic

from gitune.deploy import Route, read_entries, read_refusals, remove_route, set_route
from gitune.resources.host import end_with_engine, open_project


class DeploymentProvider(dynamic.ResourceProvider):
    """All operations write or read one line of the routes file."""

    serialize_as_secret_always = False

    def configure(self, _req: dynamic.ConfigureRequest) -> None:
        end_with_engine()

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.DiffResult:
        names = ("alias", "provider", "model_id", "version", "canary")
        return dynamic.DiffResult(changes=any(_olds.get(name) != _news.get(name) for name in names))

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        _set(props)
        return dynamic.CreateResult(props["agent"], props)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.UpdateResult:
        _set(_news)
        if _olds["alias"] != _news["alias"]:
            _remove(_olds)
        return dynamic.UpdateResult(_news)

    def read(self, id_: str, props: dict[str, Any]) -> dynamic.ReadResult:
        """What the alias points to now. A model that failed its smoke test is not put back there by the next pass."""
        path, alias, wanted = open_project(props["stack"]).routes_file, props["alias"], _route(props)
        entry, refusal = read_entries(path).get(alias), read_refusals(path).get(alias)
        if (entry is None or entry.route != wanted) and not (refusal and refusal.of(wanted)):
            props = {**props, "model_id": entry.route.model_id if entry else ""}  # drift: the next step mends it
        return dynamic.ReadResult(id_, props, props)

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        _remove(_props)


def _route(props: dict[str, Any]) -> Route:
    return Route(props["agent"], props["provider"], props["model_id"], props["version"])


def _set(props: dict[str, Any]) -> None:
    project = open_project(props["stack"])
    test = project.stack.smoke_test is not None
    set_route(project.routes_file, props["alias"], _route(props), canary=project.stack.canary, test=test)


def _remove(props: dict[str, Any]) -> None:
    remove_route(open_project(props["stack"]).routes_file, props["alias"], agent=props["agent"])


class Deployment(dynamic.Resource, module="gitune", name="Deployment"):
    """One alias and the model behind it. `canary` is the share of the requests that it answers; None: all."""

    def __init__(
        self, agent: str, stack: str, alias: str, route: Route, canary: float | None, opts: ResourceOptions
    ) -> None:
        props: dict[str, Input[Any]] = {
            "agent": agent,
            "stack": stack,
            "alias": alias,
            "provider": route.provider,
            "model_id": route.model_id,
            "version": route.version,
        }
        if canary is not None:
            props["canary"] = canary
        super().__init__(DeploymentProvider(), agent, props, opts)
