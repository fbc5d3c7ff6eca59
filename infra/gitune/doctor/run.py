"""All checks, one after the other: one that fails itself is not checked, and stops no other."""

from __future__ import annotations

from collections.abc import Iterator

from gitune.doctor import backend, clock, github, machine, providers, repository, workflows
from gitune.doctor.finding import Check, Finding, Setting
from gitune.errors import GituneError, InvalidInput

CHECKS: tuple[tuple[str, Check], ...] = (
    ("python", machine.check_python),
    ("engine", machine.check_engine),
    ("git", machine.check_git),
    ("disk", machine.check_disk),
    ("clock", clock.check_clock),
    ("tracked", repository.check_tracked),
    ("files", repository.check_files),
    ("secrets", repository.check_secrets),
    ("workflows", workflows.check_workflows),
    ("backend", backend.check_backend),
    ("encryption", backend.check_encryption),
    ("store", providers.check_store),
    ("base model", providers.check_base_model),
    ("providers", providers.check_providers),
    ("github", github.check_github),
)


def examine(setting: Setting) -> Iterator[Finding]:
    """Findings as they come. Raises nothing."""
    for name, check in CHECKS:
        try:
            yield from check(setting)
        except InvalidInput:
            yield Finding(name, "not checked", f"stack {setting.stack} cannot be read", "mend what `files` says first")
        except GituneError as error:
            yield Finding(name, "not checked", error.message, error.hint or "")
        except Exception as error:  # noqa: BLE001  a check that fails must not hide what the others find
            # its words may hold what must not be shown: a URL with a key, a header
            yield Finding(name, "not checked", f"the check itself failed: {type(error).__name__}", "this is our bug")
