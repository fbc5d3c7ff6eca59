"""An agent's folder: proposed, checked beside the repository's own agents, and only then put in its place."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from gitune.benchmark.cases import Case
from gitune.benchmark.scorers import check_case
from gitune.dataset.chat import Example, Message, as_dicts, first_problems
from gitune.dataset.formats import Reader
from gitune.dataset.rules import DEFAULTS, Settings, apply
from gitune.dataset.urls import shown_url
from gitune.errors import InvalidInput, Problem, UserError
from gitune.files import write_atomic
from gitune.new_agent.columns import Shape
from gitune.new_agent.cut import Cut, count_questions, cut_cases, propose_count
from gitune.new_agent.reading import Table
from gitune.new_agent.scoring import Scoring, propose_scoring
from gitune.project import Project, check_agent_files
from gitune.scorer_spec import Scorer
from gitune.spec import AGENT_NAME, RuleId, Severity, read_agents
from gitune.templates import render

_SCHEMAS = ("agents/agent.schema.json", "docs/reference/agent.schema.json")
_DATA, _CASES = "data/train.jsonl", "benchmark/cases.jsonl"
_LINKED_RULES: Mapping[RuleId, Severity] = {"exact-duplicate": "drop", "leak": "drop", "near-leak": "drop"}
"""A file that stays as it is holds the cases too, so the dataset leaves them out."""
_PRIVATE: tuple[RuleId, ...] = ("email", "phone", "credit-card", "api-key")
_DECIDES = re.compile(r"dataset\.rules\.([\w-]+) decides what happens")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user said; None and empty: what is proposed."""

    name: str
    alias: str | None = None
    description: str | None = None
    licence: str | None = None
    scorer: str | None = None
    cases: int | None = None
    examples: int | None = None
    validation: float | None = None
    providers: tuple[str, ...] = ("local",)
    rules: Mapping[RuleId, Severity] | None = None
    link: bool = False


@dataclass(frozen=True, slots=True)
class Proposal:
    """An agent that is not written yet."""

    wishes: Wishes
    table: Table
    shape: Shape
    scoring: Scoring
    cut: Cut
    questions: int
    dropped: int
    """Examples that hold what is personal or secret."""
    validation: float


def read_examples(table: Table, shape: Shape, system: str | None = None) -> tuple[Example, ...]:
    """The conversations of all rows; `system` is put before those that have no system message. Raises InvalidInput."""
    reader = Reader(shape.format, dict(shape.columns or {}))
    problems: list[Problem] = []
    examples = []
    for line, row in table.rows:
        example = reader.read(row, table.file.shown, line, problems)
        if example is not None:
            examples.append(example)
    if problems:
        raise InvalidInput(first_problems(problems))
    if system is None or shape.columns:
        return tuple(examples)
    first = Message("system", system)
    return tuple(
        example if example.messages[0].role == "system" else replace(example, messages=(first, *example.messages))
        for example in examples
    )


def propose(wishes: Wishes, table: Table, shape: Shape, read: Sequence[Example]) -> Proposal:
    """Scorer, cases and split. Raises InvalidInput where no benchmark can be cut off, and for what no file may hold."""
    examples = _fit_to_keep(wishes, read)
    if not examples:
        raise InvalidInput([Problem(table.file.shown, 0, "no example is left after the rules")])
    scoring = propose_scoring([example.messages[-1].content for example in examples])
    if wishes.scorer is not None and wishes.scorer != scoring.scorer:
        scoring = replace(scoring, scorer=wishes.scorer, reason="as asked")
    scorer = _scorer(scoring.scorer)
    questions = count_questions(examples)
    wanted = propose_count(questions) if wishes.cases is None else wishes.cases
    cut = cut_cases(examples, wanted, scorer, by_answer=bool(scoring.labels))
    file = table.file.shown
    if not cut.cases:
        _check_answers(examples, scorer)
        hint = "at least two questions are needed: one to train on, one to ask"
        raise InvalidInput([Problem(file, 0, "no question can be held back for the benchmark", hint)])
    if wishes.cases is not None and len(cut.cases) < wishes.cases:
        message = f"only {len(cut.cases)} of {questions} questions can be held back, not {wishes.cases}"
        hint = "of each answer one stays, and a question with two answers cannot be judged"
        raise InvalidInput([Problem(file, 0, message, f"--cases {len(cut.cases)} or fewer; {hint}")])
    if not cut.training:
        hint = "take fewer cases: --cases 5"
        raise InvalidInput([Problem(file, 0, "no example is left to train on: all are near a case", hint)])
    dropped, validation = len(read) - len(examples), _validation(wishes, len(cut.training))
    return Proposal(wishes, table, shape, scoring, cut, questions, dropped, validation)


def _fit_to_keep(wishes: Wishes, examples: Sequence[Example]) -> tuple[Example, ...]:
    """Without what is personal or secret and is to be dropped. It must not get into the cases either, which the rules
    of a dataset do not look at. Raises InvalidInput where it is not said to be dropped or kept.
    """
    wanted = {rule: (wishes.rules or {}).get(rule, DEFAULTS[rule]) for rule in _PRIVATE}
    cleaned = apply(examples, (), Settings(severities={rule: wanted.get(rule, "off") for rule in DEFAULTS}))
    problems = cleaned.problems()
    if problems:
        raise InvalidInput([replace(problem, hint=_as_flag(problem.hint)) for problem in problems])
    return cleaned.kept


def _as_flag(hint: str | None) -> str | None:
    return hint and _DECIDES.sub(r"--rule \1=drop leaves such examples out, warn and off keep them", hint)


def _check_answers(examples: Sequence[Example], scorer: Scorer) -> None:
    """Raises InvalidInput where the scorer can make nothing of the answers."""
    for example in examples:
        wrong = check_case(scorer, Case("", example.prompt, example.messages[-1].content, example.line))
        if wrong is not None:
            raise InvalidInput([Problem(example.file, example.line, wrong, "--scorer names another")])


def _scorer(name: str) -> Scorer:
    """Raises UserError."""
    try:
        return Scorer.model_validate(name)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        raise UserError(f"--scorer: {wrong['msg']}", hint=wrong.get("ctx", {}).get("hint")) from error


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
        found.append(Problem(*given(problem.file, problem.line), message, _as_flag(problem.hint)))
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


def check_link(table: Table, root: Path, system: str | None, shape: Shape) -> None:
    """Raises InvalidInput or UserError for a file that cannot stay where it is."""
    file = table.file
    if table.sha256:
        if "***" in shown_url(file.shown):
            raise UserError("a URL with a secret cannot be linked", hint="leave --link out: the data is copied")
    elif not file.path.resolve().is_relative_to(root.resolve()):
        hint = "move it into the repository, or leave --link out: the data is copied"
        raise InvalidInput([Problem(file.shown, 0, "outside the repository, so it cannot be linked", hint)])
    if system is not None and not shape.columns:
        raise UserError("--link keeps the file as it is, so --system cannot be added", hint="leave one of them out")


def _validation(wishes: Wishes, examples: int) -> float:
    if wishes.validation is not None:
        return wishes.validation
    return 0.05 if examples >= 200 else 0.1 if examples >= 40 else 0.0


def _case_line(case: Case) -> dict[str, object]:
    return {"id": case.case_id, "messages": as_dicts(case.messages), "target": case.target}


def _lines(values: Iterable[object]) -> str:
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
