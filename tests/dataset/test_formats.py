"""Every known shape of rows makes the same conversation; every unknown one is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitune.dataset.chat import Example, Message, parse_line
from gitune.dataset.formats import Reader, WrongRow, detect
from gitune.dataset.scan import Part, place_of, scan_block
from gitune.errors import Problem
from gitune.hashing import canonical_json

ASKED, SAID = "Where is it?", "On its way."
PLAIN = (Message("user", ASKED), Message("assistant", SAID))
CALL = {"id": "c1", "type": "function", "function": {"name": "track", "arguments": '{"order": 7}'}}
ROWS: dict[str, dict[str, Any]] = {
    "messages": {"messages": [{"role": "user", "content": ASKED}, {"role": "assistant", "content": SAID}]},
    "prompt-completion": {"prompt": ASKED, "completion": SAID},
    "alpaca": {"instruction": ASKED, "input": "", "output": SAID},
    "sharegpt": {"conversations": [{"from": "human", "value": ASKED}, {"from": "gpt", "value": SAID}]},
}


def read(row: dict[str, Any], **reader: Any) -> tuple[Example | None, list[Problem]]:
    problems: list[Problem] = []
    format_ = {} if reader.get("columns") else {"format": detect(row)}
    return Reader(**{**format_, **reader}).read(row, "f", 3, problems), problems


@pytest.mark.parametrize("name", ROWS)
def test_each_format_is_detected_and_read(name: str) -> None:
    assert detect(ROWS[name]) == name
    example, problems = read(ROWS[name])
    assert (example and example.messages, problems) == (PLAIN, [])


def test_details_of_formats() -> None:
    example, _ = read({"instruction": "Sum up.", "input": "A text.", "output": "It.", "system": "Be brief."})
    assert example is not None
    assert [m.content for m in example.messages] == ["Be brief.", "Sum up.\n\nA text.", "It."]
    turns = [{"role": "user", "content": ASKED}]
    example, _ = read({"prompt": turns, "completion": [{"role": "assistant", "content": SAID}]})
    assert example is not None
    assert example.messages == PLAIN
    example, problems = read({"conversations": [{"from": "bing", "value": "x"}]})
    assert example is None
    assert problems[0].message == "conversations[0].from cannot be 'bing'"


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"user": "text", "assistant": "category"}, ["Hi", "7"]),
        ({"system": "Name it.", "user": "text", "assistant": "category"}, ["Name it.", "Hi", "7"]),
        ({"system": "{{x}} in {lang}", "user": "{text} ({lang})", "assistant": "text"}, ["{x} in en", "Hi (en)", "Hi"]),
    ],
)
def test_columns_are_mapped(columns: dict[str, str], expected: list[str]) -> None:
    example, problems = read({"text": "Hi", "category": 7, "lang": "en"}, columns=columns)
    assert problems == []
    assert example is not None
    assert [message.content for message in example.messages] == expected


@pytest.mark.parametrize(
    ("columns", "message", "hint"),
    [
        ({"user": "txt", "assistant": "text"}, "no column 'txt' for user", "did you mean 'text'?"),
        ({"user": "{nothing}", "assistant": "text"}, "no column 'nothing' for user", "columns: text, empty"),
        ({"user": "{empty}!", "assistant": "text"}, "column 'empty' for user must be text, not nothing", None),
    ],
)
def test_columns_that_are_not_there(columns: dict[str, str], message: str, hint: str | None) -> None:
    _, problems = read({"text": "Hi", "empty": None}, columns=columns)
    assert problems == [Problem("f", 3, message, hint)]


@pytest.mark.parametrize(
    ("row", "closest"),
    [
        ({"promt": "x", "completion": "y"}, "prompt-completion"),
        ({"instructions": "x", "output": "y"}, "alpaca"),
        ({"conversation": []}, "sharegpt"),
        ({"message": []}, "messages"),
    ],
)
def test_an_unknown_shape_names_the_closest(row: dict[str, Any], closest: str) -> None:
    with pytest.raises(WrongRow) as caught:
        detect(row)
    assert json.dumps(row) in caught.value.message
    assert f"the closest format is {closest}, which has" in (caught.value.hint or "")


def test_tool_calls_tools_and_weights_are_kept() -> None:
    tools = [{"type": "function", "function": {"name": "track"}}]
    messages = [
        {"role": "user", "content": ASKED},
        {"role": "assistant", "content": None, "tool_calls": [CALL], "weight": 0},
        {"role": "tool", "content": "on its way", "tool_call_id": "c1"},
        {"role": "assistant", "content": SAID},
    ]
    example, problems = read({"messages": messages, "tools": tools, "weight": 2})
    assert problems == []
    assert example is not None
    line = json.loads(example.canonical())
    assert (line["tools"], line["weight"]) == (tools, 2.0)
    assert line["messages"][1] == {**messages[1], "content": ""}
    again, _ = read(line)
    assert again == example


def _with(index: int, **changes: Any) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": ASKED},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "on its way", "tool_call_id": "c1"},
        {"role": "assistant", "content": SAID},
    ]
    messages[index] |= changes
    return messages


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": _with(2, tool_call_id="c2")}, "tool_call_id 'c2' answers no call"),
        ({"messages": _with(2, tool_call_id=None)}, "messages[2].tool_call_id must name"),
        ({"messages": _with(1, tool_calls=[])}, "messages[1].tool_calls must be a list"),
        ({"messages": _with(1, tool_calls=[{"id": "c1"}])}, "messages[1].tool_calls: each call needs"),
        (
            {"messages": _with(1, tool_calls=[{**CALL, "function": {"name": "f", "arguments": "{"}}])},
            "messages[1].tool",
        ),
        ({"messages": _with(1, tool_calls=[{**CALL, "function": {"name": "f", "arguments": []}}])}, "messages[1].tool"),
        ({"messages": _with(0, tool_calls=[CALL])}, "messages[0].tool_calls must be"),
        ({"messages": _with(1)[:2] + _with(3)[3:]}, "each tool call needs a tool's answer"),
        ({"messages": _with(3, weight=-1)}, "messages[3].weight must be a number from 0 to 1"),
        ({"messages": _with(0, weight=1)}, "messages[0].weight: only an assistant's message"),
        ({"messages": _with(3, content="\ud800")}, "messages[3].content holds a null byte or half"),
        ({"messages": _with(3), "weight": -1}, "'weight' must be a number"),
        ({"messages": _with(3), "weight": "heavy"}, "'weight' must be a number"),
        ({"messages": _with(3), "weight": 10**400}, "'weight' must be a number"),
        ({"messages": _with(3), "weight": float("nan")}, "'weight' must be a number"),
        ({"messages": _with(3), "tools": {"a": 1}}, "'tools' must be a list"),
    ],
)
def test_wrong_calls_and_weights_are_one_problem(row: dict[str, Any], message: str) -> None:
    example, problems = read(row)
    assert example is None
    assert [problem.message[: len(message)] for problem in problems] == [message]


# --- the fast way and the slow way agree -----------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=()), max_size=12) | st.sampled_from(
    ["", " ", "\u00a0", "\x7f", "a\x00b"]
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": TEXT | st.none() | st.integers(0, 3)},
    optional={"weight": st.sampled_from([None, 0, 1, 2]), "name": TEXT, "tool_calls": st.none() | st.just([CALL])},
)
TURNS = st.sampled_from([("user", "assistant"), ("system", "user", "assistant"), ("user", "assistant") * 2])
USUAL = TURNS.flatmap(
    lambda roles: st.tuples(*(st.fixed_dictionaries({"content": TEXT, "role": st.just(role)}) for role in roles))
)
ROW = st.fixed_dictionaries(
    {"messages": USUAL | st.lists(MESSAGE, max_size=4)},
    optional={
        "kind": st.sampled_from(["a", "b", "", 1, None, "\ud800"]),
        "metadata": st.sampled_from([{"kind": "m"}, {}, None, 1]),
        "weight": st.sampled_from([1, 1.0, 0.5, None, "1"]),
        "tools": st.sampled_from([None, [], [{"a": 1}]]),
        "other": st.floats() | TEXT,
    },
)


@given(st.lists(ROW, max_size=6), st.sampled_from(["", "assistant", "kind"]), st.booleans(), st.booleans())
def test_the_fast_way_and_the_slow_way_agree(rows: list[Any], stratify_by: str, ascii_: bool, spaces: bool) -> None:
    lines = [
        json.dumps(row, ensure_ascii=ascii_, indent=None, separators=None if spaces else (",", ":")) for row in rows
    ]
    block = "\n".join(lines).encode(errors="surrogatepass")
    reader = Reader(stratify_by=stratify_by, source="a")
    slow = Part()
    for number, line in enumerate(lines, start=1):
        problems: list[Problem] = []
        value = parse_line(line.encode(errors="surrogatepass"), "f", number, problems)
        example = reader.read(value, "f", number, problems) if value is not None else None
        slow.problems += problems
        if example is not None:
            slow.add(example, 5, sum(len(x.encode(errors="surrogatepass")) + 1 for x in lines[: number - 1]))
    fast = scan_block(block, 0, 1, 5, "f", reader)
    assert (fast.sizes, fast.arcs, fast.problems) == (slow.sizes, slow.arcs, slow.problems)
    assert fast.strata.items() >= slow.strata.items()


@given(st.lists(TEXT.filter(str.strip), min_size=2, max_size=2))
def test_a_line_is_spelled_as_canonical_json_spells_it(texts: list[str]) -> None:
    example = Example((Message("user", texts[0]), Message("assistant", texts[1])), "f", 1)
    assert example.canonical() == canonical_json(example.as_dict())


def test_a_place_is_the_hash_of_the_line() -> None:
    # a literal: another hash would choose other examples for every team
    assert place_of('{"messages":[]}').hex() == "967f89089aeadc7e90a8ecac9d3c9aca"
