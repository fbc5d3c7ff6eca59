"""An agent's folder: written beside the repository, checked there, and only then put in its place."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from gitune.benchmark.cases import Case
from gitune.dataset.chat import as_dicts
from gitune.dataset.sources import SourceFile, by_content
from gitune.dataset.urls import shown_url
from gitune.errors import InvalidInput, Problem, UserError
from gitune.files import write_atomic
from gitune.new_agent.columns import Shape
from gitune.new_agent.proposal import Proposal, Wishes, as_flag
from gitune.new_agent.reading import Table
from gitune.project import Project, check_agent_files
from gitune.spec import AGENT_NAME, RuleId, Severity, read_agents
from gitune.templates import render

_SCHEMAS = ("agents/agent.schema.json", "docs/reference/agent.schema.json")
_DATA, _CASES = "data/train.jsonl", "benchmark/cases.jsonl"
_LINKED_RULES: Mapping[RuleId, Severity] = {"exact-duplicate": "drop", "leak": "drop", "near-leak": "drop"}
"""A file that stays as it is holds the cases too, so the dataset leaves them out."""


def check_wishes(wishes: Wishes, project: Project) -> None:
    """Raises UserError for a name that no agent can have or that one has, and for an unknown provider."""
    for provider in wishes.providers:
        project.provider(provider)
    if not AGENT_NAME.fullmatch(wishes.name):
        hint = "use 2 to 40 of a-z 0-9 - _, starting with a letter and not ending with - or _"
        raise UserError(f"bad agent name '{wishes.name}'", hint=hint)
    if os.path.lexists(project.root / "agents" / wishes.name):
        raise UserError(f"agents/{wishes.name} is there already", hint="take another name, or move that folder away")
    taken = {spec.alias: spec.name for spec in read_agents(project.root)[0]}
    alias = wishes.alias or wishes.name
    if alias in taken:
        raise UserError(f"alias '{alias}' is already taken by agent '{taken[alias]}'", hint="--alias gives it another")


def check_link(table: Table, root: Path, system: str | None, shape: Shape) -> None:
    """Raises InvalidInput or UserError for a file that cannot stay where it is."""
    file = table.file
    if table.sha256:
        if "***" in shown_url(file.shown):
            raise UserError("a URL with a secret cannot be linked", hint="leave --link out: the data is copied")
    elif not file.path.resolve().is_relative_to((root / "agents").resolve()):
        hint = "a pull request's plan takes that folder alone: move it to agents/_data, or leave --link out"
        raise InvalidInput([Problem(file.shown, 0, "outside agents/, so it cannot be linked", hint)])
    if by_content(SourceFile.of(file.path, file.shown, file.shown)).kind != file.kind:
        hint = f"name it .{file.kind}, or leave --link out: the data is copied"
        raise InvalidInput([Problem(file.shown, 0, f"its name does not say that it is {file.kind}", hint)])
    if system is not None and not shape.columns:
        raise UserError("--link keeps the file as it is, so --system cannot be added", hint="leave one of them out")


def agent_files(proposal: Proposal, project: Project) -> dict[str, str]:
    """File below the agent's folder → text."""
    wishes, cut, table = proposal.wishes, proposal.cut, proposal.table
    folder = project.root / "agents" / wishes.name
    schema = next((name for name in _SCHEMAS if (project.root / name).is_file()), None)
    rules = dict(_LINKED_RULES if wishes.link else {}) | dict(wishes.rules or {})
    values = {
        "schema": schema and os.path.relpath(project.root / schema, folder),
        "description": wishes.description or proposal.scoring.description,
        "alias": wishes.alias or wishes.name,
        "path": _linked_path(table, folder) if wishes.link else _DATA,
        "sha256": table.sha256 if wishes.link else "",
        "licence": wishes.licence,
        "columns": dict(proposal.shape.columns or {}) if wishes.link else {},
        "validation": f"{proposal.validation:g}",
        "examples": wishes.examples,
        "labels": proposal.scoring.labels,
        "rules": rules,
        "providers": wishes.providers,
        "cases": len(cut.cases),
        "origin": " ".join(Path(table.file.shown).name.split()),
        "scorer": proposal.scoring.scorer,
        "max_new_tokens": proposal.scoring.max_new_tokens,
        "max_latency_seconds": proposal.scoring.max_latency_seconds,
    }
    files = {"agent.yaml": render("agent.yaml", values), _CASES: _lines(map(_case_line, cut.cases))}
    return files if wishes.link else files | {_DATA: _lines(example.as_dict() for example in cut.training)}


def write_agent(proposal: Proposal, project: Project) -> Counter[str]:
    """Check the whole folder where nobody looks, then put it in its place in one step.

    Returns how often each rule only warned. Raises InvalidInput, naming the lines of the file that was given.
    """
    name = proposal.wishes.name
    with _staging(project) as staging:
        folder = staging.root / "agents" / name
        for path, text in agent_files(proposal, project).items():
            write_atomic(folder / path, text, durable=True)
        if proposal.wishes.link and not proposal.table.sha256:
            _lend(proposal.table.file.path, project, staging)
        warned = _checked(proposal, staging)
        (project.root / "agents").mkdir(exist_ok=True)
        try:
            folder.rename(project.root / "agents" / name)
        except OSError as error:
            raise UserError(f"agents/{name} cannot be written: {error.strerror}") from error
    return warned


def _checked(proposal: Proposal, staging: Project) -> Counter[str]:
    specs, problems = read_agents(staging.root)
    warned: Counter[str] = Counter()
    found = list(problems)
    for spec in specs:
        wrong, dataset = check_agent_files(spec, staging)
        found += wrong
        if dataset is not None:
            warned.update(f.rule for f in dataset.assembled.findings if f.severity == "warn")
    if found:
        raise InvalidInput(_as_given(proposal, found))
    return warned


def _as_given(proposal: Proposal, problems: Iterable[Problem]) -> list[Problem]:
    """Problems with the lines of the file that was given, not of those that were to be written."""
    folder = f"agents/{proposal.wishes.name}"
    written = {f"{folder}/{_DATA}": proposal.cut.training, f"{folder}/{_CASES}": proposal.cut.origins}

    def given(file: str, line: int) -> tuple[str, int]:
        examples = written.get(file, ())
        return (examples[line - 1].file, examples[line - 1].line) if 0 < line <= len(examples) else (file, line)

    places = re.compile("(" + "|".join(map(re.escape, written)) + r"):(\d+)")
    found = []
    for problem in problems:
        message = places.sub(lambda match: "{}:{}".format(*given(match[1], int(match[2]))), problem.message)
        found.append(Problem(*given(problem.file, problem.line), message, as_flag(problem.hint)))
    return found


@contextmanager
def _staging(project: Project) -> Iterator[Project]:
    """A repository of its own on the same disk, gone afterwards whatever happens."""
    project.state_folder.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="new-", dir=project.state_folder))
    try:
        yield replace(project, root=folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _lend(path: Path, project: Project, staging: Project) -> None:
    """The linked file at its place in the staging repository."""
    place = staging.root / path.resolve().relative_to(project.root.resolve())
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path.resolve(), place)
    except OSError:  # another disk, or one without links
        shutil.copyfile(path, place)


def _linked_path(table: Table, folder: Path) -> str:
    if table.sha256:
        return table.file.shown
    return Path(os.path.relpath(table.file.path.resolve(), folder.resolve())).as_posix()


def _case_line(case: Case) -> dict[str, object]:
    return {"id": case.case_id, "messages": as_dicts(case.messages), "target": case.target}


def _lines(values: Iterable[object]) -> str:
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
