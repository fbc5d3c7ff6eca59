"""Conversations as OpenAI and Mistral train on them, and what is wrong with the ones that are not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

import msgspec

from gitune.errors import Problem
from gitune.hashing import canonical_json

Role = Literal["system", "user", "assistant", "tool"]
ROLES = ("system", "user", "assistant", "tool")
MAX_LINE_BYTES = 1_000_000
MAX_PROBLEMS = 20  # of one file: enough to see the pattern


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call that the assistant makes. `arguments` is JSON text, as the wire has it."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. An assistant that only calls tools has empty content."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    """Of a tool's message: the call that it answers."""
    weight: float | None = None
    """Of an assistant's message: 0 keeps it out of the loss; None: not said, which is 1."""


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation, and where it stands."""

    messages: tuple[Message, ...]
    file: str
    line: int
    weight: float = 1.0
    """How much the example counts in training, 0 or more."""
    tools: str = ""
    """The tools that the assistant may call: canonical JSON of the wire's list, empty for none."""
    stratum: str = ""
    """The class by which a stratified sample keeps shares."""
    source: str = ""
    """The agent whose source it is."""
    _line: str = field(default="", init=False, repr=False, compare=False)
    """`canonical`, once it was asked for: the dataset keeps the same text."""

    def canonical(self) -> str:
        """The example's line in a dataset file; equal conversations have equal lines."""
        if not self._line:
            object.__setattr__(self, "_line", self._spelled())
        return self._line

    def _spelled(self) -> str:
        if not self.tools and self.weight == 1.0 and not any(map(_has_more, self.messages)):
            # by far the most, and msgspec is ten times faster; numbers are what the two spell differently
            plain = [{"content": message.content, "role": message.role} for message in self.messages]
            try:
                return msgspec.json.encode({"messages": plain}).decode()
            except UnicodeEncodeError:  # half a character: wrong, but to be named like any other
                pass
        return canonical_json(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """The wire format; what has its default is left out."""
        line: dict[str, Any] = {"messages": as_dicts(self.messages)}
        if self.tools:
            line["tools"] = json.loads(self.tools)
        if self.weight != 1.0:
            line["weight"] = self.weight
        return line

    @property
    def prompt(self) -> tuple[Message, ...]:
        return self.messages[:-1]


def as_dicts(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """Messages in the wire format."""
    return [_as_dict(message) for message in messages]


def read_jsonl(path: Path, file: str, problems: list[Problem]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of each line that holds one; the others are appended to `problems`."""
    before = len(problems)
    with path.open("rb") as stream:
        for number, (_, raw) in enumerate(whole_lines(stream), start=1):
            if len(problems) - before >= MAX_PROBLEMS:
                problems.append(more_problems(file, number))
                return
            if not raw.strip():
                continue
            value = parse_line(raw, file, number, problems)
            if value is not None:
                yield number, value


def whole_lines(stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines, and where each begins. One that is longer than any may be is cut, so that it cannot fill the memory."""
    start = 0
    while raw := stream.readline(MAX_LINE_BYTES + 2):
        end, more = start + len(raw), raw
        while len(more) > MAX_LINE_BYTES and not more.endswith(b"\n"):
            more = stream.readline(MAX_LINE_BYTES + 2)
            end += len(more)
        yield start, raw
        start = end


def more_problems(file: str, line: int) -> Problem:
    """Said in place of the problems after the first MAX_PROBLEMS of a file."""
    return Problem(file, line, "more problems follow", "mend the ones above first")


def first_problems(problems: Iterable[Problem]) -> list[Problem]:
    """Each once: the first MAX_PROBLEMS, and a word that there are more."""
    found = list(islice(dict.fromkeys(problems), MAX_PROBLEMS + 1))
    if len(found) > MAX_PROBLEMS:
        found[MAX_PROBLEMS] = more_problems(found[-1].file, found[-1].line)
    return found


def parse_line(raw: bytes, file: str, line: int, problems: list[Problem]) -> dict[str, Any] | None:
    """The object on one line; None and a problem if there is none."""
    if len(raw) > MAX_LINE_BYTES:
        problems.append(Problem(file, line, "a line of more than 1 MB", "one example a line"))
        return None
    try:
        text = raw.decode("utf-8-sig" if line == 1 else "utf-8")
        value = _DECODER.decode(text)
    except UnicodeDecodeError:
        problems.append(Problem(file, line, "not UTF-8 text", "save the file as UTF-8"))
        return None
    except (ValueError, RecursionError) as error:  # ValueError: also a number of more digits than Python reads
        problems.append(Problem(file, line, f"not valid JSON: {json_detail(error)}", "one JSON object on each line"))
        return None
    if not isinstance(value, dict):
        problems.append(Problem(file, line, "not a JSON object", 'expected {"messages": [...]}'))
        return None
    return value


def json_detail(error: ValueError | RecursionError) -> str:
    """What `json.loads` did not like."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return "nested too deep" if isinstance(error, RecursionError) else str(error).split(";")[0][:80]


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def parse_messages(
    value: Any, file: str, line: int, problems: list[Problem], *, last: Role
) -> tuple[Message, ...] | None:
    """`messages` of one line, ending with a message of role `last`; None and a problem if they are wrong."""
    message, hint = _wrong_messages(value, last)
    if message:
        problems.append(Problem(file, line, message, hint))
        return None
    return tuple(_message(item) for item in value)


def _has_more(message: Message) -> bool:
    return bool(message.tool_calls or message.tool_call_id) or message.weight is not None


def _as_dict(message: Message) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        wire["tool_calls"] = [
            {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        wire["tool_call_id"] = message.tool_call_id
    if message.weight is not None:
        wire["weight"] = message.weight
    return wire


def _message(item: Mapping[str, Any]) -> Message:
    calls = tuple(_call(call) for call in item.get("tool_calls") or ())
    weight = item.get("weight")
    return Message(
        item["role"],
        item.get("content") or "",
        calls,
        item.get("tool_call_id") or "",
        None if weight is None else float(weight),
    )


def _call(call: Mapping[str, Any]) -> ToolCall:
    function = call["function"]
    arguments = function.get("arguments", "{}")
    text = arguments if isinstance(arguments, str) else canonical_json(arguments)  # Mistral also takes an object
    return ToolCall(call["id"], function["name"], text)


def _wrong_messages(value: Any, last: Role) -> tuple[str, str | None]:
    """What is wrong with `messages`, with a hint; an empty message when nothing is."""
    if value is None:
        return "'messages' is missing", 'expected {"messages": [{"role": ..., "content": ...}, ...]}'
    if not isinstance(value, list) or not value:
        return "'messages' must be a list that is not empty", None
    for index, item in enumerate(value):
        wrong = _wrong_message(item, f"messages[{index}]")
        if wrong[0]:
            return wrong
    return _wrong_order(value, last)


def _wrong_message(item: Any, name: str) -> tuple[str, str | None]:
    if not isinstance(item, dict):
        return f"{name} must be an object", None
    role = item.get("role")
    if role not in ROLES:
        return f"{name}.role cannot be {role!r}", f"one of: {', '.join(ROLES)}"
    content, calls = item.get("content"), item.get("tool_calls")
    if calls is not None and (role != "assistant" or not isinstance(calls, list) or not calls):
        return f"{name}.tool_calls must be a list that is not empty, of an assistant's message", None
    if not (calls and (content is None or content == "")) and (not isinstance(content, str) or not content.strip()):
        return f"{name}.content must be text that is not empty", None
    for text in (content or "", *(part for call in calls or () for part in _texts(call))):
        if not is_clean(text):
            return f"{name}.content holds a null byte or half a character", "remove it"
    for call in calls or ():
        if _wrong_call(call):
            return f"{name}.tool_calls: {_wrong_call(call)}", 'expected {"id": ..., "function": {"name": ..., ...}}'
    answers = item.get("tool_call_id")
    if (role == "tool") != isinstance(answers, str) or answers == "":
        return f"{name}.tool_call_id must name the call that a tool answers", "only messages of role tool have it"
    return _wrong_weight(item.get("weight"), name, role)


def _wrong_weight(weight: Any, name: str, role: str) -> tuple[str, str | None]:
    if weight is None:
        return "", None
    if role != "assistant":
        return f"{name}.weight: only an assistant's message has a weight", "remove it"
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
        return f"{name}.weight must be a number from 0 to 1, not {str(weight)[:40]!r}", "0: not trained on; 1: as usual"
    return "", None


def _texts(call: Any) -> Iterator[str]:
    """Every text of a tool call, also of one that is wrong."""
    function = call.get("function") if isinstance(call, dict) else None
    values = [call.get("id"), *function.values()] if isinstance(call, dict) and isinstance(function, dict) else []
    yield from (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values)


def _wrong_call(call: Any) -> str:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(call.get("id"), str) or not call["id"]:
        return "each call needs an id and a function"
    if not isinstance(function.get("name"), str) or not function["name"]:
        return "a function needs a name"
    arguments = function.get("arguments", "{}")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return f"arguments of {function['name']!r} are not valid JSON"
    return "" if is_object(arguments) else f"arguments of {function['name']!r} must be an object"


def is_object(value: Any) -> bool:
    """Whether JSON can write it: no infinite number anywhere."""
    try:
        canonical_json(value)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict)


def is_clean(text: str) -> bool:
    """Neither a null byte nor half a surrogate pair, which no tokenizer can read."""
    return "\x00" not in text and (text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text))


_ALTERNATE = ("roles must alternate: user, assistant, user, ...", "a system message may stand first")


def _wrong_order(items: list[dict[str, Any]], last: Role) -> tuple[str, str | None]:
    turns = items[1:] if items[0]["role"] == "system" else items
    if any(item["role"] == "system" for item in turns):
        return "only the first message may have role system", None
    if not turns:
        return _ALTERNATE
    before, open_calls = "", set[str]()
    for item in turns:
        role = item["role"]
        allowed = {"": {"user"}, "user": {"assistant"}, "assistant": {"user"}, "tool": {"tool", "assistant"}}[before]
        if open_calls:
            allowed = {"tool"}
        elif before == "tool":
            allowed = {"assistant"}
        if role not in allowed:
            return ("each tool call needs a tool's answer", None) if open_calls else _ALTERNATE
        if role == "tool":
            if item["tool_call_id"] not in open_calls:
                return f"tool_call_id {item['tool_call_id'][:40]!r} answers no call", None
            open_calls.discard(item["tool_call_id"])
        open_calls |= {call["id"] for call in item.get("tool_calls") or ()}
        before = role
    if turns[-1]["role"] != last:
        return f"the last message must have role {last}, not {turns[-1]['role']}", None
    return "", None
