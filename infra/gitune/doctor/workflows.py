"""Workflow files: permissions by job, pinned actions, nothing that runs a stranger's code beside secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gitune.doctor.finding import Finding, Setting, listed
from gitune.errors import UserError

_PINNED = re.compile(r"\./.*|[^@]+@[0-9a-f]{40}|docker://.+@sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow file, as far as it is judged."""

    file: str
    triggers: frozenset[str]
    permissions: Any
    """At the top; None where nothing is said."""
    uses: tuple[str, ...]
    """Actions and workflows of its steps and jobs."""
    jobs: tuple[str, ...] = ()
    """As GitHub names their checks."""


def check_workflows(setting: Setting) -> Iterator[Finding]:
    """Files of .github/workflows."""
    try:
        found = list(read_workflows(setting.root))
    except UserError as error:
        yield Finding("workflows", "problem", error.message, error.hint or "")
    else:
        yield from judge_workflows(found)


def read_workflows(root: Path) -> Iterator[Workflow]:
    """Raises UserError for a file that is not YAML."""
    folder = root / ".github" / "workflows"
    for path in sorted([*folder.glob("*.yml"), *folder.glob("*.yaml")]):
        name = path.relative_to(root).as_posix()
        try:
            yield read_workflow(name, path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{name} is not YAML", hint=str(error).splitlines()[0]) from error


def read_workflow(file: str, text: str) -> Workflow:
    """Raises yaml.YAMLError."""
    data = yaml.safe_load(text)
    data = data if isinstance(data, dict) else {}
    triggers = data.get("on", data.get(True))  # YAML 1.1 reads the word `on` as true
    names = [triggers] if isinstance(triggers, str) else list(triggers or ())
    jobs = data.get("jobs")
    checks = (
        [str(job.get("name", key)) for key, job in jobs.items() if isinstance(job, dict)]
        if isinstance(jobs, dict)
        else []
    )
    return Workflow(file, frozenset(map(str, names)), data.get("permissions"), tuple(_uses(jobs)), tuple(checks))


def judge_workflows(workflows: Sequence[Workflow]) -> Iterator[Finding]:
    """Permissions are given by job, actions are pinned to commits, nothing runs a stranger's code with secrets."""
    if not workflows:
        hint = "gitune init writes them"
        yield Finding("workflows", "warning", "no workflows: nothing plans a pull request or deploys", hint)
        return
    broad = [workflow.file for workflow in workflows if workflow.permissions != {}]
    loose = [f"{flow.file}: {uses}" for flow in workflows for uses in flow.uses if not _PINNED.fullmatch(uses)]
    risky = [workflow.file for workflow in workflows if "pull_request_target" in workflow.triggers]
    if risky:
        hint = "use pull_request: a fork's run then has no secret"
        yield Finding("workflows", "problem", f"pull_request_target in {listed(risky)}", hint)
    if broad:
        hint = "write permissions: {} at the top, and what a job needs at the job"
        yield Finding("workflows", "problem", f"no permissions: {{}} at the top of {listed(broad)}", hint)
    if loose:
        hint = "pin each to a commit of 40 digits: a tag can be moved"
        yield Finding("workflows", "warning", f"actions that are not pinned: {listed(dict.fromkeys(loose))}", hint)
    if not (risky or broad or loose):
        yield Finding("workflows", "ok", f"{len(workflows)} workflow(s): permissions by job, actions pinned")


def _uses(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("uses"), str):
            yield node["uses"]
        for value in node.values():
            yield from _uses(value)
    elif isinstance(node, list):
        for value in node:
            yield from _uses(value)
