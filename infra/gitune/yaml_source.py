"""YAML that remembers where each value stands, so that every error can say file:line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from gitune.errors import Problem

Path_ = tuple[str | int, ...]
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C loader is ten times faster; the wheel has it


@dataclass(frozen=True, slots=True)
class YamlSource:
    """A parsed document: plain values, and the line (from 1) of every key and item."""

    file: str
    data: Any
    lines: Mapping[Path_, int]
    problems: tuple[Problem, ...] = ()

    def line(self, path: Path_) -> int:
        """Line of the value at `path`, or of its nearest ancestor that is in the file."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return 1

    def problem(self, path: Path_, message: str, hint: str | None = None) -> Problem:
        return Problem(self.file, self.line(path), message, hint)


def parse_yaml(text: bytes, file: str) -> YamlSource:
    """Parse one document. Syntax errors, duplicate keys and aliases become problems, never exceptions."""
    try:
        loader = _Loader(text.decode("utf-8"))
        node = loader.get_single_node()
        if node is None:
            return YamlSource(file, None, {}, (Problem(file, 1, "the file is empty"),))
        lines: dict[Path_, int] = {}
        problems: list[Problem] = []
        _walk(node, (), file, lines, problems, set())
        data = None if problems else loader.construct_document(node)
    except UnicodeDecodeError as error:
        line = text[: error.start].count(b"\n") + 1
        return YamlSource(file, None, {}, (Problem(file, line, "not UTF-8 text", "save the file as UTF-8"),))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        detail = " ".join(part for part in (error.context, error.problem) if part)
        problem = Problem(file, mark.line + 1 if mark else 1, f"not valid YAML: {detail}")
        return YamlSource(file, None, {}, (problem,))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        detail = str(error).splitlines()[0] if str(error) else "nested too deeply"
        return YamlSource(file, None, {}, (Problem(file, 1, f"not valid YAML: {detail}"),))
    return YamlSource(file, data, lines, tuple(problems))


def flow_scalar(value: str) -> str:
    """A text that means itself in a flow and in a block."""
    return yaml.safe_dump([value], default_flow_style=True, width=10_000, allow_unicode=True).strip()[1:-1]


def _walk(
    node: yaml.Node, path: Path_, file: str, lines: dict[Path_, int], problems: list[Problem], seen: set[int]
) -> None:
    if id(node) in seen:  # an alias: could be cyclic, and hides what a reviewer reads
        line = node.start_mark.line + 1
        problems.append(Problem(file, line, "YAML anchors and aliases are not allowed", "write the value out"))
        return
    seen.add(id(node))
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                problems.append(Problem(file, key.start_mark.line + 1, "a key must be plain text"))
                continue
            if key.value == "<<":
                problems.append(Problem(file, key.start_mark.line + 1, "YAML merge keys are not allowed"))
                continue
            child = (*path, key.value)
            if child in lines:
                message = f"key '{key.value}' stands twice (first on line {lines[child]})"
                problems.append(Problem(file, key.start_mark.line + 1, message, "keep one of them"))
                continue
            lines[child] = key.start_mark.line + 1
            _walk(value, child, file, lines, problems, seen)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _walk(item, (*path, index), file, lines, problems, seen)
