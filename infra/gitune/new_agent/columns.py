"""Which columns of a table are asked and answered. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gitune.dataset.formats import FORMATS, template_columns
from gitune.errors import InvalidInput, Problem
from gitune.hints import did_you_mean
from gitune.new_agent.reading import Table

_QUESTIONS = (
    "question", "prompt", "text", "message", "query", "input", "utterance", "instruction", "request", "sentence",
    "user", "ticket", "email", "review", "body", "content", "problem",
)  # fmt: skip
_ANSWERS = (
    "answer", "label", "intent", "category", "class", "target", "output", "completion", "response", "reply",
    "assistant", "expected", "sentiment", "solution", "tag", "topic",
)  # fmt: skip
_SYSTEMS = ("system", "system_prompt")


@dataclass(frozen=True, slots=True)
class Shape:
    """How a row becomes a conversation: a known format, or columns."""

    format: str = ""
    columns: Mapping[str, str] | None = None
    """Role → column or template, as `dataset.sources[].columns` has them."""


def known_format(table: Table) -> str | None:
    """The format of the first row; None where its columns must be named."""
    return next((name for name, known in FORMATS.items() if all(column in table.first for column in known.needs)), None)


def guess_columns(table: Table, question: str | None, answer: str | None) -> tuple[str | None, str | None]:
    """(question, answer): what is given, else a column by its name, else what only one column can be."""
    free = [name for name in table.columns if name not in (question, answer) and _holds_text(table, name)]
    question = question or _named(free, _QUESTIONS)
    answer = answer or _named([name for name in free if name != question], _ANSWERS)
    rest = [name for name in free if name not in (question, answer) and not _numbers_rows(table, name)]
    if question is None and answer is None and len(rest) == 2:
        answer, question = sorted(rest, key=lambda name: _distinct(table, name))
    elif question is None and answer is not None and len(rest) == 1:
        question = rest[0]
    elif answer is None and question is not None and len(rest) == 1:
        answer = rest[0]
    return question, answer


def propose_shape(table: Table, question: str | None, answer: str | None, system: str | None) -> Shape:
    """The known format of the first row, or columns; what is given wins. Raises InvalidInput where neither is clear."""
    if question is None and answer is None and (known := known_format(table)):
        return Shape(format=known)
    for role, column in (("question", question), ("answer", answer)):
        _check(table, role, column)
    question, answer = guess_columns(table, question, answer)
    if question is None or answer is None:
        missing = "question" if question is None else "answer"
        message = f"which column is the {missing}? there are: {', '.join(table.columns)}"
        raise InvalidInput([Problem(table.file.shown, 1, message, f"--{missing} COLUMN says it")])
    system = system or _named([name for name in table.columns if name not in (question, answer)], _SYSTEMS)
    return Shape(columns={"user": question, "assistant": answer} | ({"system": system} if system else {}))


def _check(table: Table, role: str, column: str | None) -> None:
    """A column, or a template of columns."""
    if column is None or column in table.columns:
        return
    try:
        names = template_columns(column) or [column]
    except ValueError as error:
        raise InvalidInput([Problem(table.file.shown, 1, f"--{role}: bad template: {error}")]) from error
    missing = [name for name in names if name not in table.columns]
    if missing:
        hint = did_you_mean(missing[0], table.columns) or f"columns: {', '.join(table.columns)}"
        raise InvalidInput([Problem(table.file.shown, 1, f"no column '{missing[0]}' for --{role} in every row", hint)])


def _named(columns: list[str], known: tuple[str, ...]) -> str | None:
    plain = {_plain(name): name for name in reversed(columns)}
    return next((plain[name] for name in known if name in plain), None)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z]+", "_", name.casefold()).strip("_")


def _holds_text(table: Table, name: str) -> bool:
    return all(isinstance(row[name], str | int | float) and not isinstance(row[name], bool) for _, row in table.rows)


def _numbers_rows(table: Table, name: str) -> bool:
    """Whether it is an ID: whole numbers, no two alike."""
    values = [str(row[name]) for _, row in table.rows]
    return len(values) > 2 and all(value.isdecimal() for value in values) and len(set(values)) == len(values)


def _distinct(table: Table, name: str) -> int:
    return len({str(row[name]) for _, row in table.rows})
