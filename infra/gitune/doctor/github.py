"""The repository's settings on GitHub, against docs/github-setup.md."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gitune.doctor.finding import OFFLINE, Finding, Setting
from gitune.doctor.workflows import Workflow, read_workflows
from gitune.errors import UserError

_SETUP = "gitune's docs/github-setup.md"
_ENVIRONMENTS = ("plan", "training", "production")
_ON_MAIN = ("training", "production")
_CREDENTIALS = ("_KEY", "_TOKEN", "_SECRET", "PASSPHRASE")


@dataclass(frozen=True, slots=True)
class Environment:
    """One environment, as far as the token may see it."""

    reviewers: int
    branches: str
    """`all`, `protected`, or the patterns of custom branches, separated by commas."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for main: rulesets and branch protection together."""

    reviews: int = 0
    checks: frozenset[str] = frozenset()
    pull_requests: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """GitHub's answers. None: the token may not read it."""

    repository: str
    environments: Mapping[str, Environment] | None = None
    rules: Rules | None = None
    token: Mapping[str, Any] | None = None
    """Default permissions of the job's token: default_workflow_permissions, can_approve_pull_request_reviews."""
    secrets: Sequence[str] | None = None
    """Names of the repository's own."""
    variables: Mapping[str, str] | None = None
    apps: Mapping[str, bool] = field(default_factory=dict)
    """Environment → whether GITUNE_APP_ID is set there; what may not be read is left out."""


def check_github(setting: Setting) -> Iterator[Finding]:
    """Asked where there are a token and a repository on GitHub; else said why not."""
    if not setting.online:
        yield Finding("github", "not checked", OFFLINE)
        return
    if not (os.environ.get("GITHUB_TOKEN") or os.environ.get("GH_TOKEN")):
        yield Finding("github", "not checked", "no token", "GITHUB_TOKEN=$(gh auth token) gitune doctor")
        return
    try:
        from gitune.doctor.github_facts import read_facts
    except ImportError:
        yield Finding("github", "not checked", "PyGithub is not installed", "pip install 'gitune[github]'")
        return
    try:
        facts = read_facts(setting.root)
        workflows = list(read_workflows(setting.root))
    except UserError as error:
        yield Finding("github", "not checked", error.message, error.hint or "")
        return
    yield from judge_github(facts, [workflow for workflow in workflows if "pull_request" in workflow.triggers])


def judge_github(facts: Facts, workflows: Sequence[Workflow]) -> Iterator[Finding]:
    """All of it, each with the click that mends it. `workflows` are those that look at a pull request."""
    settings = f"{facts.repository}: Settings →"
    yield from _judge_switch(facts, settings)
    yield from _judge_environments(facts, settings)
    yield _judge_rules(facts.rules, workflows, settings)
    yield from _judge_token(facts, settings)
    yield _judge_secrets(facts.secrets, settings)


def _judge_switch(facts: Facts, settings: str) -> Iterator[Finding]:
    if facts.variables is None:
        yield _unread("github switch", "variables")
    elif facts.variables.get("GITUNE") == "on":
        yield Finding("github switch", "ok", "the variable GITUNE is on: the workflows run")
    else:
        hint = f"{settings} Variables: GITUNE = on, when the rest is right"
        yield Finding("github switch", "warning", "the variable GITUNE is not on: only static plans run", hint)


def _judge_environments(facts: Facts, settings: str) -> Iterator[Finding]:
    if facts.environments is None:
        yield _unread("github environments", "environments")
        return
    missing = [name for name in _ENVIRONMENTS if name not in facts.environments]
    if missing:
        hint = f"{settings} Environments, as {_SETUP} has them"
        yield Finding("github environments", "problem", f"not there: {', '.join(missing)}", hint)
    else:
        yield Finding("github environments", "ok", f"there: {', '.join(_ENVIRONMENTS)}")
    open_to_all = [name for name in _ON_MAIN if name in facts.environments and not _only_main(facts.environments[name])]
    if open_to_all:
        message = f"branches other than main deploy to {', '.join(open_to_all)}: a workflow there reads its keys"
        hint = f"{settings} Environments → Deployment branches: main"
        yield Finding("github branches", "problem", message, hint)
    elif set(_ON_MAIN) <= facts.environments.keys():
        yield Finding("github branches", "ok", f"only main deploys to {' and '.join(_ON_MAIN)}")
    production = facts.environments.get("production")
    if production is not None and not production.reviewers:
        hint = f"{settings} Environments → production → Required reviewers"
        yield Finding("github approval", "problem", "production has no reviewers: nobody approves a deploy", hint)
    elif production is not None:
        yield Finding("github approval", "ok", f"{production.reviewers} reviewer(s) approve production")


def _only_main(environment: Environment) -> bool:
    return environment.branches in ("main", "protected")


def _judge_rules(rules: Rules | None, workflows: Sequence[Workflow], settings: str) -> Finding:
    if rules is None:
        return _unread("github main", "administration")
    wrong = [] if rules.pull_requests else ["anybody who may write pushes to it"]
    wrong += [] if rules.reviews else ["no review is required"]
    wrong += [
        f"no check of {workflow.file} is required ({' or '.join(workflow.jobs)})"
        for workflow in workflows
        if not any(_is_of(check, job) for check in rules.checks for job in workflow.jobs)
    ]
    if wrong:
        hint = f"{settings} Rules: a ruleset for main with pull requests, one review and these checks"
        return Finding("github main", "problem", f"main is production, and {'; '.join(wrong)}", hint)
    return Finding("github main", "ok", f"{rules.reviews} review(s) and {len(rules.checks)} check(s) are required")


def _is_of(check: str, job: str) -> bool:
    """Checks are named by job; `plan / plan` where a reusable workflow runs it. `gitune` is written by plan."""
    return check == job or check.startswith(f"{job} / ") or (job, check) == ("plan", "gitune")


def _judge_token(facts: Facts, settings: str) -> Iterator[Finding]:
    if facts.token is None:
        yield _unread("github token", "administration")
        return
    if facts.token.get("default_workflow_permissions") == "read":
        yield Finding("github token", "ok", "a job's token reads, unless its job says more")
    else:
        hint = f"{settings} Actions → General → Workflow permissions: read"
        yield Finding("github token", "problem", "a job's token may write by default", hint)
    app = all(facts.apps.get(name) for name in _ON_MAIN)
    if app or facts.token.get("can_approve_pull_request_reviews"):
        yield Finding("github proposals", "ok", f"{'a GitHub App opens' if app else 'Actions may open'} pull requests")
    else:
        hint = f"{settings} Actions → General: allow Actions to create pull requests; or a GitHub App ({_SETUP})"
        yield Finding("github proposals", "problem", "nobody may open the pull request of a lock", hint)


def _judge_secrets(secrets: Sequence[str] | None, settings: str) -> Finding:
    if secrets is None:
        return _unread("github secrets", "secrets")
    exposed = sorted(name for name in secrets if name.endswith(_CREDENTIALS))
    if exposed:
        hint = f"{settings} Environments: set them there, then remove them from the repository"
        message = f"in the repository, where a workflow of any branch reads them: {', '.join(exposed)}"
        return Finding("github secrets", "problem", message, hint)
    return Finding("github secrets", "ok", "no key among the repository's own secrets")


def _unread(check: str, permission: str) -> Finding:
    hint = f"a token that reads {permission}, such as of an administrator: GITHUB_TOKEN=$(gh auth token)"
    return Finding(check, "not checked", "this token may not read it", hint)
