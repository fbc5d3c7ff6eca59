"""One row of a source, in any of the known formats, becomes a conversation."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from string import Formatter
from typing import Any, TypeAlias

from gitune.dataset.chat import Example, is_clean, is_object, parse_messages
from gitune.errors import Problem
from gitune.hashing import canonical_json
from gitune.hints import did_you_mean

ANSWER = "assistant"
"""`stratify_by: assistant`: the last answer is the stratum."""

Row: TypeAlias = Mapping[str, Any]


class WrongRow(ValueError):
    """A row that its format cannot read; `hint` says what it wants."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Format:
    """A known shape of rows: the columns that it needs, and how they become messages in the wire format."""

    needs: tuple[str, ...]
    convert: Callable[[Row], Any]


def _messages(row: Row) -> Any:
    return row["messages"]


def _prompt_completion(row: Row) -> Any:
    return [*_turns(row["prompt"], "user"), *_turns(row["completion"], "assistant")]


def _turns(value: Any, role: str) -> list[Any]:
    """TRL writes either text or a list of messages on both sides."""
    return value if isinstance(value, list) else [{"role": role, "content": value}]


def _alpaca(row: Row) -> Any:
    asked, given = row["instruction"], row.get("input")
    if given:
        asked = f"{asked}\n\n{given}"
    system = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    return [*system, {"role": "user", "content": asked}, {"role": "assistant", "content": row["output"]}]


_SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
}


def _sharegpt(row: Row) -> Any:
    turns = row["conversations"]
    if not isinstance(turns, list) or not turns:
        raise WrongRow("'conversations' must be a list that is not empty")
    messages = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    for index, turn in enumerate(turns):
        if not isinstance(turn, dict):
            raise WrongRow(f"conversations[{index}] must be an object", '{"from": ..., "value": ...}')
        speaker = turn.get("from")
        if not isinstance(speaker, str) or speaker not in _SHAREGPT_ROLES:
            known = f"one of: {', '.join(_SHAREGPT_ROLES)}"
            raise WrongRow(f"conversations[{index}].from cannot be {str(speaker)[:40]!r}", known)
        messages.append({"role": _SHAREGPT_ROLES[speaker], "content": turn.get("value")})
    return messages


FORMATS: Mapping[str, Format] = {
    "messages": Format(("messages",), _messages),
    "prompt-completion": Format(("prompt", "completion"), _prompt_completion),
    "alpaca": Format(("instruction", "output"), _alpaca),
    "sharegpt": Format(("conversations",), _sharegpt),
}


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the rows of one source. The same values in every process that reads a part of it."""

    format: str = "messages"
    columns: Mapping[str, str] = field(default_factory=dict)
    """Role → column, template such as "{title}: {text}", or (for system) plain text. Wins over `format`."""
    stratify_by: str = ""
    """ANSWER, or a key of the row or of its `metadata`; empty: no strata."""
    source: str = ""

    def read(self, row: Row, file: str, line: int, problems: list[Problem]) -> Example | None:
        """The row's example; None and one problem if it holds none."""
        try:
            wire = self._convert(row)
            weight, tools = _weight(row), _tools(row)
        except WrongRow as wrong:
            problems.append(Problem(file, line, wrong.message, wrong.hint))
            return None
        messages = parse_messages(wire, file, line, problems, last="assistant")
        if messages is None:
            return None
        stratum = ""
        if self.stratify_by:
            found = messages[-1].content if self.stratify_by == ANSWER else _label(row, self.stratify_by)
            if found is None:
                message = f"no '{self.stratify_by}' to stratify by"
                problems.append(Problem(file, line, message, f"columns: {_listed(row)}; or 'assistant', the answer"))
                return None
            stratum = found
        return Example(messages, file, line, weight, tools, stratum, self.source)

    def _convert(self, row: Row) -> Any:
        if self.columns:
            return _mapped(row, self.columns)
        known = FORMATS[self.format]
        missing = [name for name in known.needs if name not in row]
        if missing:
            raise WrongRow(f"'{missing[0]}' is missing", f"every row of a {self.format} file has {_and(known.needs)}")
        return known.convert(row)


def detect(row: Row) -> str:
    """The format of a file whose first row this is. Raises WrongRow with the row and the closest known format."""
    for name, known in FORMATS.items():
        if all(column in row for column in known.needs):
            return name
    shown = json.dumps(row, ensure_ascii=False, default=str)
    shown = shown if len(shown) <= 120 else f"{shown[:117]}..."
    closest = max(FORMATS, key=lambda name: _likeness(row, FORMATS[name]))
    needs = _and(FORMATS[closest].needs)
    hint = f"the closest format is {closest}, which has {needs}; or map columns: {{user: ..., assistant: ...}}"
    raise WrongRow(f"'messages' is missing and no other format fits: {shown}", hint)


def _likeness(row: Row, known: Format) -> float:
    """0 to 1: how near the row's columns come to those that the format needs."""
    names = [str(name).casefold() for name in row] or [""]
    best = [max(difflib.SequenceMatcher(None, name, need).ratio() for name in names) for need in known.needs]
    return sum(best) / len(best)


def _mapped(row: Row, columns: Mapping[str, str]) -> Any:
    return [
        {"role": role, "content": _cell(row, role, columns[role])}
        for role in ("system", "user", "assistant")
        if role in columns
    ]


def _cell(row: Row, role: str, value: str) -> Any:
    if value in row:
        return _text(row[value])
    names = template_columns(value)
    if not names and role == "system":
        return value.format()  # plain text; {{ is a brace
    missing = [name for name in names or [value] if name not in row]
    if missing:
        hint = did_you_mean(missing[0], (str(name) for name in row)) or f"columns: {_listed(row)}"
        raise WrongRow(f"no column '{missing[0]}' for {role}", hint)
    values = {name: _text(row[name]) for name in names}
    wrong = [name for name in names if not isinstance(values[name], str)]
    if wrong:
        raise WrongRow(f"column '{wrong[0]}' for {role} must be text, not {_kind(values[wrong[0]])}")
    return value.format(**values)


def template_columns(template: str) -> list[str]:
    """The columns that a template names. Raises ValueError for a template that is none."""
    names = []
    for _, name, spec, conversion in Formatter().parse(template):
        if name is None:
            continue
        if not name or spec or conversion or any(char in name for char in ".[]"):
            raise ValueError(f"'{{{name}}}' is not a column: write {{name}}, and {{{{ for a brace")
        names.append(name)
    return names


def _text(value: Any) -> Any:
    """Numbers as text; what is neither stays as it is and is refused as content."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _label(row: Row, key: str) -> str | None:
    value = row.get(key)
    metadata = row.get("metadata")
    if value is None and isinstance(metadata, dict):
        value = metadata.get(key)
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value) if isinstance(value, str | int | float) else None
    return text if text is not None and is_clean(text) else None


def _weight(row: Row) -> float:
    value = row.get("weight")
    if value is None or value == "":
        return 1.0
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else -1.0
    except (ValueError, OverflowError):  # text that is no number; an integer too large for a float
        number = -1.0
    if not 0 <= number <= 1_000:
        raise WrongRow(f"'weight' must be a number from 0 to 1000, not {str(value)[:40]!r}", "1 is the usual weight")
    return number


def _tools(row: Row) -> str:
    tools = row.get("tools")
    if not tools:
        return ""
    if not isinstance(tools, list) or not all(is_object(tool) for tool in tools):
        raise WrongRow("'tools' must be a list of objects", '[{"type": "function", "function": {...}}]')
    text = canonical_json(tools)
    if not is_clean(text) or "\\u0000" in text:
        raise WrongRow("'tools' holds a null byte or half a character", "remove it")
    return text


def _listed(row: Row) -> str:
    return ", ".join(str(name) for name in list(row)[:12])


def _and(names: tuple[str, ...]) -> str:
    return " and ".join(f"'{name}'" for name in names)
