"""Messages between gitune and inspect, without loss."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
)
from inspect_ai.tool import ToolCall


def to_inspect(messages: Sequence[Mapping[str, Any]]) -> list[ChatMessage]:
    """A conversation in the wire format as inspect has it."""
    return [_to_inspect(message) for message in messages]


def from_inspect(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """The inverse of `to_inspect`."""
    return [_from_inspect(message) for message in messages]


def _to_inspect(message: Mapping[str, Any]) -> ChatMessage:
    text = message["content"]
    match message["role"]:
        case "system":
            return ChatMessageSystem(content=text)
        case "user":
            return ChatMessageUser(content=text)
        case "tool":
            return ChatMessageTool(content=text, tool_call_id=message.get("tool_call_id"))
    return ChatMessageAssistant(
        content=text, tool_calls=[_call(call) for call in message.get("tool_calls", ())] or None
    )


def _from_inspect(message: ChatMessage) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.role, "content": message.text}
    calls = getattr(message, "tool_calls", None)
    if calls:
        wire["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.function, "arguments": json.dumps(call.arguments, ensure_ascii=False)},
            }
            for call in calls
        ]
    if message.role == "tool" and message.tool_call_id:
        wire["tool_call_id"] = message.tool_call_id
    return wire


def _call(call: Mapping[str, Any]) -> ToolCall:
    function = call["function"]
    return ToolCall(id=call["id"], function=function["name"], arguments=json.loads(function["arguments"]))
