"""The held-out cases of an agent."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gitune.dataset.chat import Message, as_dicts, parse_messages, read_jsonl
from gitune.errors import InvalidInput, Problem
from gitune.hashing import canonical_json, sha256
from gitune.spec import AgentSpec


@dataclass(frozen=True, slots=True)
class Case:
    """One conversation that ends with the user, and the answer that is right."""

    case_id: str
    messages: tuple[Message, ...]
    target: str
    line: int


def load_cases(spec: AgentSpec, root: Path) -> tuple[Case, ...]:
    """All cases in file order. Raises InvalidInput."""
    cases, problems = _read_cases(spec, root)
    if problems:
        raise InvalidInput(problems)
    return tuple(cases)


def cases_fingerprint(cases: Sequence[Case]) -> str:
    """Hex SHA-256 over what a model is asked and what is right; the order does not matter."""
    return sha256(sorted(canonical_json({"messages": as_dicts(c.messages), "target": c.target}) for c in cases))


def check_cases(spec: AgentSpec, root: Path) -> list[Problem]:
    """What is wrong with the cases by themselves; that none stands in the dataset is a rule of the dataset's."""
    return _read_cases(spec, root)[1]


def known_cases(spec: AgentSpec, root: Path) -> tuple[Case, ...]:
    """The cases that can be read, whatever is wrong with the others."""
    return tuple(_read_cases(spec, root)[0]) if (spec.folder / spec.benchmark.cases).is_file() else ()


def shown_cases(spec: AgentSpec, root: Path) -> str:
    """The file of the cases as messages name it."""
    return Path(os.path.relpath(spec.folder / spec.benchmark.cases, root)).as_posix()


def _read_cases(spec: AgentSpec, root: Path) -> tuple[list[Case], list[Problem]]:
    file = shown_cases(spec, root)
    problems: list[Problem] = []
    cases: list[Case] = []
    seen: dict[str, int] = {}
    for line, value in read_jsonl(spec.folder / spec.benchmark.cases, file, problems):
        unknown = sorted(set(value) - {"id", "messages", "target"})
        if unknown:
            problems.append(Problem(file, line, f"unknown key '{unknown[0]}'", "known: id, messages, target"))
            continue
        messages = parse_messages(value.get("messages"), file, line, problems, last="user")
        target, case_id = value.get("target"), value.get("id", f"line-{line}")
        if messages is None:
            continue
        if not isinstance(target, str) or not target.strip():
            problems.append(Problem(file, line, "'target' must be text that is not empty", "the right answer"))
        elif not isinstance(case_id, str) or case_id in seen:
            where = f" (first on line {seen[case_id]})" if isinstance(case_id, str) else ""
            problems.append(Problem(file, line, f"'id' must be text that stands once{where}"))
        else:
            seen[case_id] = line
            cases.append(Case(case_id, messages, target, line))
    if not cases and not problems:
        problems.append(Problem(file, 0, "no case in this file", "one JSON object with messages and target a line"))
    return cases, problems
