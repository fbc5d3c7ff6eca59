"""What GitHub says of a repository's settings: REST calls that read, and what a token may not see."""

from __future__ import annotations

import os
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

from github import GithubException

from gitune.doctor.github import Environment, Facts, Rules
from gitune.github.client import Client, connected
from gitune.github.context import read_context

_HIDDEN = (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)


def read_facts(root: Path) -> Facts:
    """Raises UserError where GitHub cannot be asked at all."""
    with connected(read_context(os.environ, root)) as client:
        environments = _environments(client)
        return Facts(
            client.context.repository,
            environments,
            _rules(client),
            _ask(client, "/actions/permissions/workflow"),
            _names(client, "/actions/secrets", "secrets"),
            _variables(client, "/actions/variables"),
            {
                name: "GITUNE_APP_ID" in variables
                for name in environments or ()
                if (variables := _variables(client, f"/environments/{quote(name, safe='')}/variables")) is not None
            },
        )


def _environments(client: Client) -> dict[str, Environment] | None:
    said = _ask(client, "/environments")
    if said is None:
        return None
    return {one["name"]: _environment(client, one) for one in said["environments"]}


def _environment(client: Client, said: dict[str, Any]) -> Environment:
    rules = said.get("protection_rules") or ()
    reviewers = sum(len(rule.get("reviewers") or ()) for rule in rules if rule["type"] == "required_reviewers")
    policy = said.get("deployment_branch_policy")
    if policy is None:
        return Environment(reviewers, "all")
    if policy.get("protected_branches"):
        return Environment(reviewers, "protected")
    branches = _ask(client, f"/environments/{quote(said['name'], safe='')}/deployment-branch-policies") or {}
    return Environment(reviewers, ",".join(sorted(one["name"] for one in branches.get("branch_policies", ()))))


def _rules(client: Client) -> Rules | None:
    """Rulesets are seen by everybody who reads; branch protection by administrators only."""
    active = _ask(client, "/rules/branches/main")
    protection = _ask(client, "/branches/main/protection")
    reviews, checks, pull_requests = 0, set(), False
    for rule in active or ():
        parameters = rule.get("parameters") or {}
        if rule["type"] == "pull_request":
            pull_requests = True
            reviews = max(reviews, int(parameters.get("required_approving_review_count", 0)))
        if rule["type"] == "required_status_checks":
            checks |= {check["context"] for check in parameters.get("required_status_checks", ())}
    if protection is not None:
        asked = protection.get("required_pull_request_reviews")
        pull_requests = pull_requests or asked is not None
        reviews = max(reviews, int((asked or {}).get("required_approving_review_count", 0)))
        checks |= set((protection.get("required_status_checks") or {}).get("contexts", ()))
    if protection is None and not active and _hidden_protection(client):
        return None
    return Rules(reviews, frozenset(checks), pull_requests)


def _hidden_protection(client: Client) -> bool:
    """Main is protected, and this token may not see how; 404 says that there is none, 403 says nothing."""
    said = _ask(client, "/branches/main")
    return said is None or bool(said.get("protected"))


def _variables(client: Client, path: str) -> dict[str, str] | None:
    said = _ask(client, path)
    return None if said is None else {one["name"]: str(one["value"]) for one in said["variables"]}


def _names(client: Client, path: str, kind: str) -> list[str] | None:
    said = _ask(client, path)
    return None if said is None else [str(one["name"]) for one in said[kind]]


def _ask(client: Client, path: str) -> Any:
    """The answer's first hundred; None: hidden from this token, or not there."""
    url = f"/repos/{client.context.repository}{path}"
    try:
        _, said = client.repository.requester.requestJsonAndCheck("GET", url, parameters={"per_page": 100})
    except GithubException as error:
        if error.status in _HIDDEN:
            return None
        raise
    return said
