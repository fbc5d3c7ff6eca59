"""Every output is what its provider accepts, by validators written from the providers' own rules, not from ours."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitune.dataset.chat import Example, Message, ToolCall
from gitune.dataset.render import FORMATS, check_file, mistral_call_id, render

SHARED = Path(__file__).resolve().parents[3] / "shared" / "openapi"
TOOLS = json.dumps([{"type": "function", "function": {"name": "find"}}])
TEXT = st.text('aZ9é \n\t"\\{}日👍\u2028\x7f', min_size=1, max_size=8).filter(str.strip)
WEIGHTS = st.sampled_from([None, 0.0, 1.0, 0.5])


@st.composite
def examples(draw: st.DrawFn) -> Example:
    """Any conversation that the readers let through: tools, weights and many turns included."""
    messages = [Message("system", draw(TEXT))] if draw(st.booleans()) else []
    with_tools = draw(st.integers(0, 3)) == 0
    for _ in range(draw(st.integers(1, 3))):
        messages.append(Message("user", draw(TEXT)))
        if with_tools:
            call = ToolCall(draw(TEXT), draw(st.from_regex(r"[a-z_]{1,12}", fullmatch=True)), '{"a": 1}')
            messages.append(Message("assistant", "", (call,), weight=draw(WEIGHTS)))
            messages.append(Message("tool", draw(TEXT), tool_call_id=call.call_id))
        messages.append(Message("assistant", draw(TEXT), weight=draw(WEIGHTS)))
    weight = draw(st.sampled_from([1.0, 1.0, 0.0, 0.25, 2.5]))
    return Example(tuple(messages), "train.jsonl", draw(st.integers(1, 99)), weight, TOOLS if with_tools else "")


def _line(text: str) -> dict[str, Any]:
    assert "\n" not in text
    value = json.loads(text)
    assert isinstance(value, dict)
    return value


def _alternates(roles: list[str]) -> bool:
    return roles == ["user", "assistant"] * (len(roles) // 2) and len(roles) >= 2


def valid_bedrock(lines: list[str]) -> None:
    for line in map(_line, lines):
        assert set(line) <= {"system", "messages"}
        assert isinstance(line.get("system", ""), str)
        assert _alternates([m["role"] for m in line["messages"]])
        assert all(set(m) == {"role", "content"} and m["content"].strip() for m in line["messages"])


def valid_trl(lines: list[str]) -> None:
    for line in map(_line, lines):
        assert set(line) == {"messages"}
        roles = [m["role"] for m in line["messages"]]
        assert _alternates(roles[1:] if roles[0] == "system" else roles)
        assert all(set(m) == {"role", "content"} and m["content"].strip() for m in line["messages"])


def valid_chat(lines: list[str]) -> None:
    """What Mistral and OpenAI have in common."""
    assert sum(len(line.encode()) + 1 for line in lines) <= 512 * 1000 * 1000
    for line in map(_line, lines):
        assert {"messages"} <= set(line) <= {"messages", "tools"}
        called: list[str] = []
        for message in line["messages"]:
            keys = {"assistant": {"tool_calls", "weight"}, "tool": {"tool_call_id"}}.get(message["role"], set())
            assert set(message) <= {"role", "content"} | keys
            assert message.get("weight", 1) in (0, 1)
            assert isinstance(message.get("weight", 1), int)
            called += [call["id"] for call in message.get("tool_calls", ())]
            assert message["role"] != "tool" or message["tool_call_id"] in called
            assert message.get("content") or message.get("tool_calls")
        assert line["messages"][-1]["role"] == "assistant"
        assert any(m["role"] == "assistant" and m.get("weight", 1) for m in line["messages"])


def valid_mistral(lines: list[str]) -> None:
    valid_chat(lines)
    for message in (m for line in lines for m in _line(line)["messages"]):
        ids = [call["id"] for call in message.get("tool_calls", ())] + [message.get("tool_call_id", "abcABC019")]
        assert all(re.fullmatch("[a-zA-Z0-9]{9}", call_id) for call_id in ids)


def valid_openai(lines: list[str]) -> None:
    valid_chat(lines)
    assert len(lines) >= 10


VALID = {
    "mistral": valid_mistral,
    "openai": valid_openai,
    "bedrock": valid_bedrock,
    "local": valid_trl,
    "ray": valid_trl,
    "huggingface": valid_trl,
}


def test_every_format_has_an_independent_validator() -> None:
    assert set(VALID) == set(FORMATS)


@given(st.lists(examples(), max_size=14), st.sampled_from(sorted(VALID)))
def test_every_output_validates_for_its_provider(given_examples: list[Example], provider: str) -> None:
    rendered = render(given_examples, provider)
    assert bool(rendered.lines) != bool(rendered.problems)  # whole or refused, never a part
    if rendered.lines:
        VALID[provider](list(rendered.lines))
        assert len(rendered.lines) == len(given_examples)
    if any(e.weight != 1 for e in given_examples):
        assert any("no provider honours the weight" in p.message for p in rendered.problems)
    assert render(given_examples, provider) == rendered


def plain(text: str = "q", weight: float = 1.0, **more: Any) -> Example:
    return Example((Message("user", text), Message("assistant", "a", **more)), "train.jsonl", 3, weight)


def test_the_order_of_a_dataset_is_kept() -> None:
    rows = [plain(f"question {i}") for i in range(20)]
    expected = tuple(row.canonical() for row in rows)
    assert render(rows, "local").lines == expected  # the very lines of the dataset's own file


@pytest.mark.parametrize(
    ("example", "provider", "message"),
    [
        (plain(weight=0.5), "bedrock", "no provider honours the weight 0.5 of an example"),
        (plain(more := "q", weight=1.0), "openai", "openai: 1 example(s) to train on, at least 10 are needed"),
        (
            Example((Message("user", more), Message("assistant", "a", weight=0.0)), "f", 1),
            "mistral",
            "nothing to train",
        ),
        (
            Example((Message("user", more), Message("assistant", "a", weight=0.5)), "f", 1),
            "openai",
            "the weight 0.5 of a",
        ),
        (
            Example((Message("user", more), Message("assistant", "a", weight=0.0)), "f", 1),
            "bedrock",
            "cannot have weights",
        ),
        (
            Example((Message("user", more), Message("assistant", "a")), "f", 1, tools=TOOLS),
            "local",
            "tool calls cannot",
        ),
    ],
)
def test_what_a_provider_cannot_honour_is_an_error(example: Example, provider: str, message: str) -> None:
    rendered = render([example], provider)
    assert rendered.lines == ()
    assert message in str(rendered.problems[0])


def test_a_file_may_not_be_too_large() -> None:
    lines = ["x" * 1_000_000] * 512  # one text in memory
    (problem,) = check_file(lines, "mistral")
    assert "512.0 MB, at most 512 MB are accepted" in problem.message
    assert not list(check_file(lines[:511], "openai"))
    assert not list(check_file(lines, "bedrock"))


def test_mistral_renames_the_calls_that_it_would_refuse() -> None:
    assert mistral_call_id("abcABC019") == "abcABC019"
    assert re.fullmatch("[0-9a-f]{9}", mistral_call_id("call_1"))
    assert mistral_call_id("call_1") != mistral_call_id("call_2")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the vendors' OpenAPI documents are not beside this repository")
@pytest.mark.parametrize("provider", ["mistral", "openai"])
@given(rows=st.lists(examples(), min_size=1, max_size=3))
def test_the_vendors_own_schemas_accept_every_message(provider: str, rows: list[Example]) -> None:
    names = {role: f"{role.title()}Message" for role in ("system", "user", "assistant", "tool")}
    if provider == "openai":
        names = {role: f"ChatCompletionRequest{name}" for role, name in names.items()}
    document = json.loads((SHARED / f"{provider}.json").read_text(encoding="utf-8"))
    components = {"components": document["components"]}
    rows = [replace(row, weight=1.0) for row in rows]
    for line in render(rows, provider, purpose="validation").lines:
        value = json.loads(line)
        tool = {"$ref": f"#/components/schemas/{'Tool' if provider == 'mistral' else 'ChatCompletionTool'}"}
        jsonschema.validate(value.get("tools", []), {"type": "array", "items": tool, **components})
        for message in value["messages"]:
            message.pop("weight", None)  # of training files only; the documents describe the chat API
            schema = {"$ref": f"#/components/schemas/{names[message['role']]}", **components}
            jsonschema.validate(message, schema)
