"""Chat JSONL: one conversation a line, in the format that OpenAI and Mistral train on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gitune.errors import Problem
from gitune.hashing import canonical_json

Role = Literal["system", "user", "assistant"]
ROLES = ("system", "user", "assistant")
MAX_LINE_BYTES = 1_000_000
MAX_PROBLEMS = 20  # of one file: enough to see the pattern


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation, and where it stands."""

    messages: tuple[Message, ...]
    file: str
    line: int

    def canonical(self) -> str:
        """The example's line in a dataset file; equal conversations have equal lines."""
        return canonical_json({"messages": as_dicts(self.messages)})

    @property
    def prompt(self) -> tuple[Message, ...]:
        return self.messages[:-1]


def as_dicts(messages: tuple[Message, ...]) -> list[dict[str, str]]:
    """Messages in the wire format."""
    return [{"role": message.role, "content": message.content} for message in messages]


def read_jsonl(path: Path, file: str, problems: list[Problem]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of each line that holds one; the others are appended to `problems`."""
    before = len(problems)
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            if len(problems) - before >= MAX_PROBLEMS:
                problems.append(Problem(file, number, "more problems follow", "mend the ones above first"))
                return
            if not raw.strip():
                continue
            value = _parse_line(raw, file, number, problems)
            if value is not None:
                yield number, value


def read_examples(path: Path, file: str) -> tuple[list[Example], list[Problem]]:
    """All valid examples of a file, and every line that is not one."""
    problems: list[Problem] = []
    examples: list[Example] = []
    for line, value in read_jsonl(path, file, problems):
        messages = parse_messages(value.get("messages"), file, line, problems, last="assistant")
        if messages is not None:
            examples.append(Example(messages, file, line))
    if not examples and not problems:
        problems.append(Problem(file, 0, "no example in this file", "one JSON object with 'messages' on each line"))
    return examples, problems


def parse_messages(
    value: Any, file: str, line: int, problems: list[Problem], *, last: Role
) -> tuple[Message, ...] | None:
    """`messages` of one line, ending with a message of role `last`; None and a problem if they are wrong."""
    message, hint = _wrong_messages(value, last)
    if message:
        problems.append(Problem(file, line, message, hint))
        return None
    return tuple(Message(item["role"], item["content"]) for item in value)


def _parse_line(raw: bytes, file: str, line: int, problems: list[Problem]) -> dict[str, Any] | None:
    if len(raw) > MAX_LINE_BYTES:
        problems.append(Problem(file, line, f"a line of {len(raw) / 1e6:.1f} MB", "one example a line, at most 1 MB"))
        return None
    try:
        text = raw.decode("utf-8-sig" if line == 1 else "utf-8")
        value = json.loads(text)
    except UnicodeDecodeError:
        problems.append(Problem(file, line, "not UTF-8 text", "save the file as UTF-8"))
        return None
    except (json.JSONDecodeError, RecursionError) as error:
        detail = (
            f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else "nested too deep"
        )
        problems.append(Problem(file, line, f"not valid JSON: {detail}", "one JSON object on each line"))
        return None
    if not isinstance(value, dict):
        problems.append(Problem(file, line, "not a JSON object", 'expected {"messages": [...]}'))
        return None
    return value


def _wrong_messages(value: Any, last: Role) -> tuple[str, str | None]:
    """What is wrong with `messages`, with a hint; an empty message when nothing is."""
    if value is None:
        return "'messages' is missing", 'expected {"messages": [{"role": ..., "content": ...}, ...]}'
    if not isinstance(value, list) or not value:
        return "'messages' must be a list that is not empty", None
    for index, item in enumerate(value):
        name = f"messages[{index}]"
        if not isinstance(item, dict):
            return f"{name} must be an object", None
        if item.get("role") not in ROLES:
            return f"{name}.role cannot be {item.get('role')!r}", f"one of: {', '.join(ROLES)}"
        content = item.get("content")
        if not isinstance(content, str) or not content.strip():
            return f"{name}.content must be text that is not empty", None
        if "\x00" in content or any("\ud800" <= char <= "\udfff" for char in content):
            return f"{name}.content holds a null byte or half a character", "remove it"
    return _wrong_order([item["role"] for item in value], last)


def _wrong_order(roles: list[str], last: Role) -> tuple[str, str | None]:
    turns = roles[1:] if roles[0] == "system" else roles
    if "system" in turns:
        return "only the first message may have role system", None
    if not turns or any(role != ("user", "assistant")[i % 2] for i, role in enumerate(turns)):
        return "roles must alternate: user, assistant, user, ...", "a system message may stand first"
    if turns[-1] != last:
        return f"the last message must have role {last}, not {turns[-1]}", None
    return "", None
