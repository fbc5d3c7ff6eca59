"""Talking to a deployed agent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from gitune.benchmark.cases import load_cases
from gitune.dataset.chat import as_dicts
from gitune.deploy import Route, locked_route, read_routes
from gitune.errors import UserError
from gitune.hints import did_you_mean
from gitune.hosted import HostedModel, open_hosted
from gitune.hosting import target_of
from gitune.inference import LocalModel
from gitune.project import Project
from gitune.providers.base import ChatTarget, LocalTarget
from gitune.shared_routes import fetch_routes
from gitune.spec import AgentSpec, load_agents

_MAX_NEW_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Chat:
    """An open line to what an alias points to."""

    route: Route
    system: str | None
    complete: Callable[[list[dict[str, str]]], Iterator[str]]

    def ask(self, message: str) -> Iterator[str]:
        """The answer to one message, in pieces; nothing is remembered from one message to the next."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return self.complete([*system, {"role": "user", "content": message}])


def open_chat(project: Project, alias: str) -> Chat:
    """Follow the alias to its model and load it. Raises UserError for an alias that nobody deployed."""
    routes = _routes(project)
    if alias not in routes:
        known = f"deployed: {', '.join(routes)}" if routes else "nothing is deployed yet: run gitune up"
        raise UserError(f"no alias '{alias}'", hint=did_you_mean(alias, routes) or known)
    route = routes[alias]
    model = _open_model(target_of(project, route))

    def complete(messages: list[dict[str, str]]) -> Iterator[str]:
        return model.stream(messages, _MAX_NEW_TOKENS)

    spec = next((spec for spec in load_agents(project.root) if spec.name == route.agent), None)
    return Chat(route, _system_prompt(spec, project) if spec else None, complete)


def _routes(project: Project) -> Mapping[str, Route]:
    """What is deployed; where the stack deploys nothing, what its locks say."""
    if "deployments" in project.stack.declare:
        fetch_routes(project)
        return read_routes(project.routes_file)
    found = {spec.alias: locked_route(spec, project) for spec in load_agents(project.root)}
    return {alias: route for alias, route in found.items() if route is not None}


def _open_model(target: ChatTarget) -> LocalModel | HostedModel:
    if not isinstance(target, LocalTarget):
        return open_hosted(target)
    from gitune.training.base_model import resolve_base_model

    return LocalModel.open(resolve_base_model(target.base_model), target.adapter)


def _system_prompt(spec: AgentSpec, project: Project) -> str | None:
    """The system message that the agent was trained with, as its cases have it."""
    first = as_dicts(load_cases(spec, project.root)[0].messages)[0]
    return first["content"] if first["role"] == "system" else None
