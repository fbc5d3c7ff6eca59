"""The held-out cases of an agent."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitune.benchmark.scorers import check_case, fact_pattern
from gitune.dataset.chat import Message, as_dicts, parse_messages, read_jsonl
from gitune.errors import InvalidInput, Problem
from gitune.hashing import canonical_json, sha256
from gitune.spec import AgentSpec

_KEYS = ("id", "messages", "target", "source", "facts", "fields")


@dataclass(frozen=True, slots=True)
class Case:
    """One conversation that ends with the user, and the answer that is right."""

    case_id: str
    messages: tuple[Message, ...]
    target: str
    line: int
    source: str | None = None
    """Cases of one source, such as a document, are not independent: statistics take them as a cluster."""
    facts: tuple[str, ...] = ()
    """What the answer must say: texts, or /patterns/. For the scorer `facts`, and for judges to see."""
    fields: tuple[str, ...] = ()
    """The JSON fields that count here, in place of the scorer's."""

    @property
    def question(self) -> str:
        """The last thing that the user says."""
        return self.messages[-1].content


def load_cases(spec: AgentSpec, root: Path) -> tuple[Case, ...]:
    """All cases in file order. Raises InvalidInput."""
    cases, problems = _read_cases(spec, root)
    if problems:
        raise InvalidInput(problems)
    return tuple(cases)


def cases_fingerprint(cases: Sequence[Case]) -> str:
    """Hex SHA-256 over what a model is asked and what is right; the order does not matter."""
    return sha256(sorted(canonical_json(_decides(case)) for case in cases))


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
        unknown = sorted(set(value) - set(_KEYS))
        if unknown:
            problems.append(Problem(file, line, f"unknown key '{unknown[0]}'", f"known: {', '.join(_KEYS)}"))
            continue
        messages = parse_messages(value.get("messages"), file, line, problems, last="user")
        target, case_id = value.get("target"), value.get("id", f"line-{line}")
        said = _extras(value)
        if messages is None:
            continue
        if isinstance(said, str):
            problems.append(Problem(file, line, said))
        elif not isinstance(target, str) or not target.strip():
            problems.append(Problem(file, line, "'target' must be text that is not empty", "the right answer"))
        elif not isinstance(case_id, str) or case_id in seen:
            where = f" (first on line {seen[case_id]})" if isinstance(case_id, str) else ""
            problems.append(Problem(file, line, f"'id' must be text that stands once{where}"))
        else:
            seen[case_id] = line
            case = Case(case_id, messages, target, line, **said)
            wrong = check_case(spec.benchmark.scorer, case)
            if wrong:
                problems.append(Problem(file, line, wrong))
            cases.append(case)
    if not cases and not problems:
        problems.append(Problem(file, 0, "no case in this file", "one JSON object with messages and target a line"))
    return cases, problems


def _decides(case: Case) -> dict[str, Any]:
    """What is left out of a case is left out here too, so that old fingerprints stay."""
    extras = {"facts": list(case.facts), "fields": list(case.fields), "source": case.source}
    told = {key: value for key, value in extras.items() if value}
    return {"messages": as_dicts(case.messages), "target": case.target, **told}


def _extras(value: Mapping[str, Any]) -> dict[str, Any] | str:
    """source, facts and fields of a case; or what is wrong with them."""
    source = value.get("source")
    if source is not None and (not isinstance(source, str) or not source.strip()):
        return "'source' must be text that is not empty"
    extras: dict[str, Any] = {"source": source}
    for key in ("facts", "fields"):
        listed = value.get(key, [])
        if not isinstance(listed, list) or not all(isinstance(item, str) and item.strip() for item in listed):
            return f"'{key}' must be a list of texts"
        extras[key] = tuple(listed)
    for fact in extras["facts"]:
        try:
            fact_pattern(fact)
        except re.error as error:
            return f"'facts': {fact} is not a pattern: {error}"
    return extras
