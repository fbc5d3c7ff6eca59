"""GitHub Deployments: one environment for each alias, so that its page says which model answered when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from github.Deployment import Deployment

from gitune.deploy import Route, read_routes
from gitune.errors import UserError
from gitune.git import file_at
from gitune.github.client import Client
from gitune.lock import parse_lock
from gitune.project import Project
from gitune.spec import AgentSpec, load_agents

_TASK = "deploy:gitune"
_DESCRIPTION = 140
"""Characters that GitHub takes."""


@dataclass(frozen=True, slots=True)
class Told:
    """What GitHub was told of an alias."""

    agent: str
    alias: str
    version: str
    state: Literal["success", "failure"]
    url: str


def tell_deployments(client: Client, project: Project, state: Literal["success", "failure"]) -> Iterator[Told]:
    """Record what each alias answers with, and with `failure` each lock of the commit that its alias does not.

    What GitHub was told before is not told again. Raises UserError and InvalidInput.
    """
    commit = client.context.commit
    if commit is None:
        raise UserError("nothing is committed here", hint="run it in the checkout that `gitune up` worked in")
    routes = read_routes(project.routes_file)
    latest = _latest(client, project.stack.name)
    for spec in load_agents(project.root):
        wanted, answers = _committed_route(project, spec), routes.get(spec.alias)
        if answers is not None and answers.agent == spec.name:
            yield from _tell(client, project, spec, answers, "success", commit, latest)
        if state == "failure" and wanted is not None and wanted != answers:
            yield from _tell(client, project, spec, wanted, "failure", commit, latest)


def _committed_route(project: Project, spec: AgentSpec) -> Route | None:
    """What the commit wants: after a failure the files are those of before."""
    file = project.lock_file(spec.name).relative_to(project.root).as_posix()
    text = file_at(project.root, "HEAD", file)
    if text is None:
        return None
    lock = parse_lock(text.encode(), f"HEAD:{file}")
    return Route(spec.name, lock.provider, lock.model_id, lock.version)


def _latest(client: Client, stack: str) -> Mapping[str, list[Deployment]]:
    """By environment, its deployments, newest first, all pages."""
    found: dict[str, list[Deployment]] = {}
    for one in client.repository.get_deployments(task=_TASK):
        if one.environment.startswith(f"{stack}/"):
            found.setdefault(one.environment, []).append(one)
    return found


def _tell(
    client: Client,
    project: Project,
    spec: AgentSpec,
    route: Route,
    state: Literal["success", "failure"],
    commit: str,
    latest: Mapping[str, list[Deployment]],
) -> Iterator[Told]:
    environment = f"{project.stack.name}/{spec.alias}"
    payload = {
        "agent": spec.name,
        "version": route.version,
        "provider": route.provider,
        "model_id": route.model_id,
        "state": state,
    }
    known = [one for one in latest.get(environment, ()) if (one.payload or {}).get("state") == state]
    same = next((one for one in (known if state == "failure" else known[:1]) if one.payload == payload), None)
    if same is not None and _has_status(same):
        return
    description = f"{spec.name} {route.version}: {route.model_id} on {route.provider}"[:_DESCRIPTION]
    made = same or client.repository.create_deployment(
        commit,
        task=_TASK,
        auto_merge=False,
        required_contexts=[],
        payload=payload,
        environment=environment,
        description=description,
        production_environment=True,
    )
    url = _alias_url(client, project, spec)
    more = {"target_url": client.context.run_url} if client.context.run_url else {}
    made.create_status(state, environment_url=url, description=description, auto_inactive=state == "success", **more)
    yield Told(spec.name, spec.alias, route.version, state, url)


def _has_status(deployment: Deployment) -> bool:
    """Whether it was told how it ended: a run may have been killed before. A status moves the time of the change."""
    return deployment.created_at != deployment.updated_at or deployment.get_statuses().totalCount > 0


def _alias_url(client: Client, project: Project, spec: AgentSpec) -> str:
    """Where the gateway tells of the alias, as OpenAI's API does of a model; without a gateway, the lock's page."""
    test = project.stack.smoke_test
    if test is not None and test.gateway is not None:
        return f"{test.gateway.rstrip('/')}/models/{spec.alias}"
    return client.context.file_url(project.lock_file(spec.name).relative_to(project.root).as_posix())
