"""What a check says, and what it may ask."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from gitune.project import Project

State = Literal["ok", "warning", "problem", "not checked"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer of one check. No message holds a credential."""

    check: str
    state: State
    message: str
    hint: str = ""
    """How to mend it; for what is not checked, how it could be."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)  # no slots: the project is kept
class Setting:
    """What is looked at."""

    root: Path
    stack: str
    online: bool
    """Backend, providers, store and GitHub may be asked; else nothing leaves this machine."""

    @functools.cached_property
    def project(self) -> Project:
        """Raises UserError or InvalidInput for a stack that cannot be read."""
        return Project.open(self.stack, self.root)


Check = Callable[[Setting], Iterable[Finding]]
_SHOWN = 5
OFFLINE = "nothing outside this machine is asked (--offline)"


def listed(names: Iterable[str]) -> str:
    """In one line, which does not grow with a thousand of them."""
    shown = list(names)
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more
