"""The routes file: which model answers to which alias."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gitune.errors import UserError
from gitune.files import locked, read_json, write_atomic


@dataclass(frozen=True, slots=True)
class Route:
    """What an alias points to."""

    agent: str
    provider: str
    model_id: str
    version: str


def read_routes(path: Path) -> Mapping[str, Route]:
    """Routes by alias; none when the file is missing or not JSON. Raises UserError for entries that are no routes."""
    data = read_json(path)
    routes: dict[str, Any] = data.get("routes", {}) if isinstance(data, dict) else {}
    try:
        return {alias: Route(**route) for alias, route in routes.items()}
    except (TypeError, AttributeError):
        hint = "delete the file and run gitune up, which writes it anew"
        raise UserError(f"{path}: not routes of aliases to models", hint=hint) from None


def set_route(path: Path, alias: str, route: Route) -> None:
    """Point the alias at the model; the others stay as they are."""
    with locked(path.with_suffix(".lock")):
        _write(path, {**read_routes(path), alias: route})


def remove_route(path: Path, alias: str, *, agent: str) -> None:
    """Take the alias away, unless it belongs to another agent by now."""
    with locked(path.with_suffix(".lock")):
        _write(
            path, {name: route for name, route in read_routes(path).items() if (name, route.agent) != (alias, agent)}
        )


def _write(path: Path, routes: Mapping[str, Route]) -> None:
    data = {"routes": {alias: asdict(routes[alias]) for alias in sorted(routes)}}
    write_atomic(path, json.dumps(data, indent=2) + "\n")
