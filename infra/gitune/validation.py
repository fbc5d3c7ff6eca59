"""A part of a YAML file becomes a frozen value, or everything that is wrong with it, in the user's words."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from gitune.errors import InvalidInput, Problem
from gitune.hints import did_you_mean, one_of
from gitune.yaml_source import Path_, YamlSource

_T = typing.TypeVar("_T", bound=BaseModel)


class Value(BaseModel):
    """What is read from a file: unknown keys and other types are wrong, and nothing changes it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


def validate_block(model: type[BaseModel], block: Mapping[str, Any], source: YamlSource, place: Path_) -> None:
    """Check a part of a file that has a class of its own. Raises InvalidInput with the lines below `place`."""
    _, problems = validated(model, block, source, lambda loc: (*place, *loc))
    if problems:
        raise InvalidInput(problems)


def validated(
    model: type[_T], data: Mapping[str, Any], source: YamlSource, place: typing.Callable[[tuple[Any, ...]], Any]
) -> tuple[_T | None, list[Problem]]:
    """The value, or what is wrong; `place` says where in the file a value's part is."""
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        problems = []
        items = error.errors(include_url=False, include_input=True)
        for item in items:
            loc = tuple(item["loc"])
            if item["type"] == "too_short" and any(other["loc"][: len(loc)] == loc != other["loc"] for other in items):
                continue  # pydantic does not count an item that is wrong
            message, hint = _explain(model, loc, item)
            problems.append(source.problem(place(loc), message, hint))
        return None, problems


_TYPES = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "tuple_type": "a list",
}


def _explain(model: type[BaseModel], loc: tuple[Any, ...], item: Any) -> tuple[str, str | None]:
    """One line in the user's words for one pydantic error."""
    name = ".".join(str(part) for part in loc if part not in ("list[str]", "[key]"))
    kind, context = item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        fields = _fields_at(model, loc[:-1])
        return f"unknown key '{name}'", did_you_mean(str(loc[-1]), fields) or one_of(fields)
    if kind == "missing":
        return f"'{name}' is missing", None
    if kind in _TYPES:
        return f"'{name}' must be {_TYPES[kind]}, not {_kind_of(item['input'])}", None
    if kind == "literal_error":
        return f"'{name}' cannot be {item['input']!r}", f"one of: {context['expected']}"
    if kind == "string_pattern_mismatch":
        return f"'{name}' cannot be {item['input']!r}", "use a-z 0-9 . _ -, starting with a letter"
    if kind == "too_short":
        return f"'{name}' needs at least {context['min_length']} item(s)", None
    return f"'{name}': {item['msg'][:1].lower()}{item['msg'][1:]}", context.get("hint")


def _kind_of(value: Any) -> str:
    kinds = {dict: "a mapping", list: "a list", bool: "true/false", type(None): "nothing"}
    return kinds.get(type(value)) or f"{str(value)[:40]!r}"


def _fields_at(model: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    current: Any = model
    for part in loc:
        if isinstance(part, int) or part not in getattr(current, "model_fields", {}):
            continue
        annotation = current.model_fields[part].annotation
        models = [a for a in (annotation, *typing.get_args(annotation)) if isinstance(a, type)]
        current = next((a for a in models if issubclass(a, BaseModel)), current)
    return sorted(set(current.model_fields) - {"name", "folder"})
