"""Moving an agent to another provider: the candidates of its agent.yaml in a new order, the rest of the file untouched.

The file is edited as text at the places that the YAML parser reports, so comments, quotes and line ends stay as they
are. (ruamel.yaml's round trip loses comments when items change places: those behind an item and those after the last.)
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from gitune.errors import InvalidInput, UserError
from gitune.files import write_atomic
from gitune.project import Project, check_project, checked_agents
from gitune.spec import AgentSpec
from gitune.yaml_source import flow_scalar, parse_yaml

_DEFAULT = [{"provider": "local"}]
"""What an agent.yaml without `training:` says."""


@dataclass(frozen=True, slots=True)
class Move:
    """What became of agent.yaml."""

    agent: str
    file: str
    spec: AgentSpec
    """As the file says it now."""
    diff: str
    """Unified; empty: the provider was the first candidate already."""


def retrain(agent: str, provider: str, base_model: str | None, project: Project) -> Move:
    """Make a provider an agent's first candidate. Trains nothing.

    Raises InvalidInput with what is wrong with the project before or after, and UserError; then nothing is written.
    """
    if base_model is not None and not base_model.strip():
        raise UserError("the base model has no name", hint="leave --base-model out for the provider's default")
    project = replace(project, stack=project.stack.model_copy(update={"provider": None}))  # every candidate is checked
    (spec,) = checked_agents(project, [agent])
    file = spec.file.relative_to(project.root).as_posix()
    before = spec.file.read_bytes().decode("utf-8")
    after = move_candidate(before, file, provider, base_model)
    if after == before:
        return Move(agent, file, spec, "")
    specs, problems = check_project(project, {agent: after.encode("utf-8")})
    if problems:
        raise InvalidInput(problems)
    write_atomic(spec.file, after)
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), f"a/{file}", f"b/{file}", lineterm="")
    return Move(agent, file, next(spec for spec in specs if spec.name == agent), "\n".join(lines))


def move_candidate(text: str, file: str, provider: str, base_model: str | None) -> str:
    """The text of a right agent.yaml with this provider as the first candidate, the others after it in their order.

    Of several candidates of the provider, the one with the base model is meant, else the first. Raises InvalidInput
    for a layout that cannot be edited without touching other lines.
    """
    listed = (parse_yaml(text.encode("utf-8"), file).data or {}).get("training", _DEFAULT)
    wanted = _wanted(listed, provider, base_model)
    if wanted == listed:
        return text
    edited = _edited(text, wanted, _place(listed, provider, base_model))
    source = parse_yaml(edited.encode("utf-8"), file)
    if source.problems or (source.data or {}).get("training") != wanted:
        hint = f"list {provider} first by hand: one candidate a line, each with a dash"
        raise InvalidInput([parse_yaml(text.encode("utf-8"), file).problem(("training",), "cannot be edited", hint)])
    return edited


def _wanted(listed: Sequence[dict[str, Any]], provider: str, base_model: str | None) -> list[dict[str, Any]]:
    index = _place(listed, provider, base_model)
    first = {"provider": provider} if index is None else listed[index]
    if base_model is not None:
        first = {**first, "base_model": base_model}
    return [first, *(item for number, item in enumerate(listed) if number != index)]


def _place(listed: Sequence[dict[str, Any]], provider: str, base_model: str | None) -> int | None:
    own = [number for number, item in enumerate(listed) if item["provider"] == provider]
    exact = [number for number in own if listed[number].get("base_model") == base_model]
    return next(iter((exact if base_model is not None else own) or own), None)


def _edited(text: str, wanted: Sequence[dict[str, Any]], index: int | None) -> str:
    end = "\r\n" if "\r\n" in text else "\n"
    text = text if text.endswith("\n") else f"{text}{end}"
    sequence = _training_node(text)
    if sequence is None:
        lines = ["", "training:", *(f"  - {_flow(item)}" for item in wanted)]
        return text + "".join(f"{line}{end}" for line in lines)
    slots = _flow_slots(sequence) if sequence.flow_style else _block_slots(text, sequence)
    items = [text[start:stop] for start, stop in slots]
    if index is None:
        start = slots[0][0]
        return f"{text[:start]}{_new_item(sequence, wanted[0], end)}{text[start:]}"
    base_model = wanted[0].get("base_model")
    if base_model is not None and base_model != _values(sequence.value[index]).get("base_model"):
        items[index] = _with_base_model(text, sequence.value[index], slots[index], base_model, end)
    moved = [items[index], *items[:index], *items[index + 1 :]]
    return _filled(text, slots, moved)


def _values(item: yaml.MappingNode) -> dict[str, str]:
    return {key.value: value.value for key, value in item.value}


def _training_node(text: str) -> yaml.SequenceNode | None:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    found = [value for key, value in root.value if key.value == "training"] if root else []
    return found[0] if found else None


def _flow_slots(sequence: yaml.SequenceNode) -> list[tuple[int, int]]:
    return [(item.start_mark.index, item.end_mark.index) for item in sequence.value]


def _block_slots(text: str, sequence: yaml.SequenceNode) -> list[tuple[int, int]]:
    """Whole lines of each item: from the comments right above its dash to its last value's line."""
    starts = _line_starts(text)
    slots: list[tuple[int, int]] = []
    floor = sequence.start_mark.line
    while floor and _is_comment(text, starts, floor - 1):
        floor -= 1
    for item in sequence.value:
        first = item.start_mark.line
        while first > floor and _is_comment(text, starts, first - 1):
            first -= 1
        last = _last_line(item)
        slots.append((starts[first], starts[last + 1]))
        floor = last + 1
    return slots


def _filled(text: str, slots: Sequence[tuple[int, int]], items: Sequence[str]) -> str:
    """The text with the slots' contents replaced, what stands between them kept."""
    parts, end = [], 0
    for (start, stop), item in zip(slots, items, strict=True):
        parts += [text[end:start], item]
        end = stop
    return "".join([*parts, text[end:]])


def _new_item(sequence: yaml.SequenceNode, item: dict[str, Any], line_end: str) -> str:
    if sequence.flow_style:
        return f"{_flow(item)}, "
    indent = " " * sequence.start_mark.column
    lines = [f"{name}: {flow_scalar(value)}" for name, value in item.items()]
    return f"{indent}- {lines[0]}{line_end}" + "".join(f"{indent}  {line}{line_end}" for line in lines[1:])


def _with_base_model(text: str, item: yaml.MappingNode, slot: tuple[int, int], base_model: str, line_end: str) -> str:
    values = {key.value: value for key, value in item.value}
    start, end = slot
    known = values.get("base_model")
    if known is not None:
        until, since = known.start_mark.index, known.end_mark.index
        space = "" if since > until else " "  # a key without a value
        return f"{text[start:until]}{space}{flow_scalar(base_model)}{text[since:end]}"
    after = values["provider"].end_mark.index
    if item.flow_style:
        return f"{text[start:after]}, base_model: {flow_scalar(base_model)}{text[after:end]}"
    indent = " " * item.start_mark.column
    after = _line_starts(text)[values["provider"].end_mark.line + 1]
    return f"{text[start:after]}{indent}base_model: {flow_scalar(base_model)}{line_end}{text[after:end]}"


def _last_line(node: yaml.Node) -> int:
    """Where a value's text ends: a block's own end mark stands before whatever follows it."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style:
        return max(_last_line(value) for _, value in node.value)
    if isinstance(node, yaml.SequenceNode) and not node.flow_style:
        return max(_last_line(value) for value in node.value)
    return int(node.end_mark.line) - (node.end_mark.column == 0 and node.end_mark.line > node.start_mark.line)


def _line_starts(text: str) -> list[int]:
    """Where each line begins, as YAML 1.1 counts lines, and the end of the text."""
    return [0, *(match.end() for match in re.finditer(r"\r\n|[\n\r\x85\u2028\u2029]", text)), len(text)]


def _is_comment(text: str, starts: Sequence[int], line: int) -> bool:
    return text[starts[line] : starts[line + 1]].lstrip(" \t").startswith("#")


def _flow(item: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{name}: {flow_scalar(value)}" for name, value in item.items()) + "}"
