"""The files that gitune writes for people to keep, from the templates in skeleton/."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from gitune.yaml_source import flow_scalar


def render(template: str, values: Mapping[str, Any]) -> str:
    """The text of skeleton/<template>.jinja."""
    return _environment().get_template(f"{template}.jinja").render(values)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    """GitHub's expressions are written with braces, so the templates' own are not."""
    environment = Environment(
        loader=PackageLoader("gitune", "skeleton"),
        undefined=StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
    )
    environment.filters["scalar"] = flow_scalar
    return environment
