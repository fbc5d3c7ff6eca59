"""Every error that gitune raises on purpose.

    GituneError
    ├── UserError                 the user can mend it                  exit code 1
    │   ├── InvalidInput          one or more Problems, each file:line
    │   └── EngineError           the Pulumi engine refused or failed
    └── ProviderError             a provider said no; the class alone decides what happens next
        ├── Unauthorized          missing or wrong credential           next candidate
        ├── Rejected              our dataset or hyperparameter         stop: the next would fail alike
        ├── QuotaExceeded         kind "concurrent": queue; "lifetime": next candidate
        ├── Retired               the API or base model is gone         next candidate
        ├── Unavailable           time-out, 5xx, cut connection         retry later
        │   └── Unanswered        a submission's answer was lost        look for its job first
        └── NotFound              no such job or model

Ctrl-C exits with 130; anything that is not a GituneError is our bug and exits with 3. `gitune drift` exits with 2 when
it finds drift, which is no error.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

EXIT_USER = 1
EXIT_DRIFT = 2
EXIT_BUG = 3
EXIT_INTERRUPTED = 130


class GituneError(Exception):
    """Base of all. `hint` says what to do next, in one line."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UserError(GituneError):
    """Something that the user can mend."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong with the input. `line` counts from 1; 0 means the whole file."""

    file: str
    line: int
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        hint = f"\n  hint: {self.hint}" if self.hint else ""
        return f"{place}: {self.message}{hint}"


class InvalidInput(UserError):
    """All problems of the input at once, in file order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems), key=lambda p: (p.file, p.line, p.message)))
        super().__init__("\n".join(str(p) for p in self.problems))


class EngineError(UserError):
    """The Pulumi engine is missing, refused, or failed."""


class ProviderError(GituneError):
    """A provider's answer. Subclasses say what follows; the message is for people."""


class Unauthorized(ProviderError):
    """A credential is missing or wrong."""


class Rejected(ProviderError):
    """The provider refuses this dataset, base model or hyperparameter."""


class QuotaExceeded(ProviderError):
    """A limit was reached: `concurrent` frees up by itself, `lifetime` does not. `retry_after` is in seconds."""

    def __init__(
        self,
        message: str,
        *,
        kind: Literal["concurrent", "lifetime"],
        retry_after: float | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.kind = kind
        self.retry_after = retry_after


class Retired(ProviderError):
    """The training API or the base model no longer exists."""


class Unavailable(ProviderError):
    """No usable answer; `retry_after` is in seconds when the provider said so."""

    def __init__(self, message: str, *, retry_after: float | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class Unanswered(Unavailable):
    """The answer to this very submission was lost, and its job may still turn up in `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float, hint: str | None = None) -> None:
        super().__init__(message, retry_after=retry_after, hint=hint)
        self.retry_after: float = retry_after


class NotFound(ProviderError):
    """No job or model has this ID."""


def explain(error: GituneError) -> str:
    """An error and its hint in one line."""
    return f"{error.message} ({error.hint})" if error.hint else error.message
