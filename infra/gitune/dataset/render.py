"""The very JSONL that each provider accepts, and its rules checked before anything is uploaded.

| format | providers | one line | limits of a file |
|---|---|---|---|
| mistral | mistral | messages, tools; weight 0 or 1 on assistant messages; IDs of tool calls of 9 letters | 512 MB |
| openai | openai | messages, tools; weight 0 or 1 on assistant messages | 512 MB, at least 10 examples |
| bedrock | bedrock | system, messages of user and assistant, no other key | at least 32 examples |
| trl | local, ray, huggingface | messages of role and content: gitune's own training script reads no other key | - |

What a format cannot say is an error with the example's place. So is the weight of an example, which none of them can
say: weights.py applies it before, where agent.yaml declares that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from gitune.dataset.chat import Example, Message
from gitune.dataset.weights import refused_weights
from gitune.errors import Problem
from gitune.hashing import canonical_json, sha256

Purpose: TypeAlias = Literal["train", "validation"]


class CannotSay(Exception):
    """The format has no words for this part of an example."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Format:
    """How one provider wants its examples."""

    name: str
    row: Callable[[Example], dict[str, Any]]
    """The line's value. Raises CannotSay."""
    max_bytes: int | None = None
    min_examples: int = 1
    """Of a training file."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """Lines without line feeds, or what stands in the way."""

    lines: tuple[str, ...]
    problems: tuple[Problem, ...]


def render(
    examples: Sequence[Example], provider: str, *, purpose: Purpose = "train", file: str = "dataset"
) -> Rendered:
    """The lines of one file, in the order of the examples. `file` names the whole in problems.

    Raises KeyError for a provider without a format.
    """
    form = FORMATS[provider]
    problems: list[Problem] = list(refused_weights(examples))
    lines: list[str] = []
    for example in examples:
        try:
            lines.append(canonical_json(form.row(example)))
        except CannotSay as wrong:
            problems.append(Problem(example.file, example.line, f"{provider}: {wrong}", wrong.hint))
    problems += [] if problems else check_file(lines, provider, purpose=purpose, file=file)
    return Rendered(() if problems else tuple(lines), tuple(problems))


def check_file(
    lines: Sequence[str], provider: str, *, purpose: Purpose = "train", file: str = "dataset"
) -> Iterable[Problem]:
    """What the provider would refuse about the file as a whole."""
    form = FORMATS[provider]
    least = form.min_examples if purpose == "train" else 1
    if len(lines) < least:
        message = f"{provider}: {len(lines)} example(s) to train on, at least {least} are needed"
        yield Problem(file, 0, message, "add examples, or hold fewer back: dataset.validation")
    size = sum(len(line.encode("utf-8")) + 1 for line in lines)
    if form.max_bytes is not None and size > form.max_bytes:
        message = f"{provider}: {size / 1e6:,.1f} MB, at most {form.max_bytes / 1e6:,.0f} MB are accepted"
        yield Problem(file, 0, message, "take fewer examples: dataset.examples")


def mistral_row(example: Example) -> dict[str, Any]:
    """One line for Mistral, as a value."""
    messages = [_with_weight(message, _mistral_message(message)) for message in example.messages]
    return _with_tools({"messages": messages}, example)


def _openai(example: Example) -> dict[str, Any]:
    messages = [_with_weight(message, _openai_message(message)) for message in example.messages]
    return _with_tools({"messages": messages}, example)


def _bedrock(example: Example) -> dict[str, Any]:
    turns = _plain(example)
    if turns[0]["role"] == "system":
        return {"system": turns[0]["content"], "messages": turns[1:]}
    return {"messages": turns}


def _trl(example: Example) -> dict[str, Any]:
    return {"messages": _plain(example)}


def _plain(example: Example) -> list[dict[str, Any]]:
    """Messages of role and content only."""
    if example.tools or any(message.tool_calls or message.role == "tool" for message in example.messages):
        raise CannotSay("tool calls cannot be trained here", "leave the example out, or train with mistral or openai")
    if any(message.weight not in (None, 1) for message in example.messages):
        raise CannotSay("messages cannot have weights here", "split the conversation, or train with mistral or openai")
    return [{"role": message.role, "content": message.content} for message in example.messages]


def _mistral_message(message: Message) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        wire["tool_calls"] = _calls(message, mistral_call_id)
    if message.role == "tool":
        wire["tool_call_id"] = mistral_call_id(message.tool_call_id)
    return wire


def _openai_message(message: Message) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        wire["tool_calls"] = _calls(message, str)
        if not message.content:
            del wire["content"]  # required unless there are tool calls
    if message.role == "tool":
        wire["tool_call_id"] = message.tool_call_id
    return wire


def _calls(message: Message, rename: Callable[[str], str]) -> list[dict[str, Any]]:
    return [
        {"id": rename(call.call_id), "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in message.tool_calls
    ]


def mistral_call_id(call_id: str) -> str:
    """The ID itself where Mistral accepts it (mistral-common: nine letters and digits), else nine of its hash."""
    return call_id if re.fullmatch(r"[a-zA-Z0-9]{9}", call_id) else sha256([call_id])[:9]


def _with_weight(message: Message, wire: dict[str, Any]) -> dict[str, Any]:
    if message.weight is None:
        return wire
    if message.weight not in (0, 1):
        raise CannotSay(f"the weight {message.weight:g} of a message", "the weight of a message is 0 or 1")
    return {**wire, "weight": int(message.weight)}


def _with_tools(row: dict[str, Any], example: Example) -> dict[str, Any]:
    if all(message.weight == 0 for message in example.messages if message.role == "assistant"):
        raise CannotSay("every answer has weight 0: nothing to train on", "leave the example out")
    return {**row, "tools": [_tool(tool) for tool in json.loads(example.tools)]} if example.tools else row


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    if tool.get("type", "function") != "function" or not isinstance(function, dict) or not function.get("name"):
        raise CannotSay("a tool without a function", 'expected {"type": "function", "function": {"name": ..., ...}}')
    # OpenAI takes a missing `parameters` for none; Mistral wants them written.
    return {"type": "function", "function": {"parameters": {"type": "object", "properties": {}}, **function}}


_MAX_FILE = 512_000_000  # both say 512 MB; the decimal reading is the smaller one

_TRL = Format("trl", _trl)
FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "mistral": Format("mistral", mistral_row, max_bytes=_MAX_FILE),
        "openai": Format("openai", _openai, max_bytes=_MAX_FILE, min_examples=10),
        "bedrock": Format("bedrock", _bedrock, min_examples=32),
        "huggingface": _TRL,
        "ray": _TRL,
        "local": _TRL,
    }
)
"""By the provider's name."""
