"""The repository: is it under git, can its files be read, does it hold a secret."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from gitune.dataset.rules.keys import secrets
from gitune.doctor.finding import Finding, Setting, listed
from gitune.errors import InvalidInput, UserError
from gitune.git import files_in, is_repository, tracked_files
from gitune.spec import read_agents

_LARGEST_BYTES = 5_000_000
_OURS = frozenset(
    {
        "an OpenAI or Anthropic key",
        "an AWS access key",
        "a GitHub token",
        "a Google key",
        "a Hugging Face token",
        "a Pulumi token",
        "a private key",
    }
)
"""Kinds that our providers, backends and GitHub hand out, by their prefixes: what is found is one, nearly always."""
_SHORTEST_KEY = 12
"""Shorter values of variables stand in files by chance."""
_SECRET_NAME = re.compile(r"(?:KEY|TOKEN|SECRET|PASSPHRASE|PASSWORD)$")
_STACK_FILE = re.compile(r"Pulumi\.[^/]+\.ya?ml")


class Leak(NamedTuple):
    """A credential in a tracked file: where it stands and what kind it is, and no character of it."""

    file: str
    line: int
    kind: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} ({self.kind})"


def check_tracked(setting: Setting) -> Iterator[Finding]:
    """Whether agents are in git, and .gitune is not."""
    if not is_repository(setting.root):
        yield judge_tracked(None, ())
        return
    declared = sorted(path.parent.name for path in (setting.root / "agents").glob("*/agent.yaml"))
    yield judge_tracked(tracked_files(setting.root), declared)


def judge_tracked(tracked: Sequence[str] | None, agents: Iterable[str]) -> Finding:
    """None: not a git repository."""
    if tracked is None:
        return Finding("tracked", "problem", "not a git repository: main is production, so there is none", "git init")
    local = [name for name in tracked if name.startswith(".gitune/")]
    if local:
        hint = "git rm -r --cached .gitune, and add .gitune/ to .gitignore"
        return Finding("tracked", "problem", f"{len(local)} file(s) of .gitune are committed: models, state", hint)
    files = set(tracked)
    missing = [name for name in agents if f"agents/{name}/agent.yaml" not in files]
    if missing:
        return Finding("tracked", "warning", f"not in git: {listed(missing)}", "git add agents")
    return Finding("tracked", "ok", f"{sum(name.endswith('/agent.yaml') for name in tracked)} agent(s) in git")


def check_files(setting: Setting) -> Iterator[Finding]:
    """The stack's file and every agent.yaml; the data is read by `gitune validate`."""
    try:
        specs, problems = read_agents(setting.project.root, {})
        if problems:
            raise InvalidInput(problems)
    except InvalidInput as error:
        yield Finding("files", "problem", _first(error), "gitune validate names every problem")
    except UserError as error:
        yield Finding("files", "problem", error.message, error.hint or "")
    else:
        yield Finding("files", "ok", f"stack {setting.stack} and {len(specs)} agent(s) can be read")


def check_secrets(setting: Setting) -> Iterator[Finding]:
    """Keys in files that are in git, or would be with `git add`: by known prefixes, and those of this environment."""
    if not is_repository(setting.root):
        yield Finding("secrets", "not checked", "not a git repository")
        return
    known = known_values(os.environ)
    leaks: list[Leak] = []
    too_large = 0
    for name in files_in(setting.root, "."):
        path = setting.root / name
        if not path.is_file() or path.is_symlink():
            continue
        if path.stat().st_size > _LARGEST_BYTES:
            too_large += 1
            continue
        leaks += find_leaks(name, path.read_bytes(), known)
    yield judge_secrets(leaks, too_large)


def known_values(environment: Mapping[str, str]) -> dict[str, str]:
    """Values of variables that are named like credentials, to the variables' names: Mistral's keys have no prefix."""
    return {
        value: name
        for name, value in environment.items()
        if _SECRET_NAME.search(name) and len(value) >= _SHORTEST_KEY and not Path(value).is_absolute()
    }


def find_leaks(file: str, data: bytes, known: Mapping[str, str]) -> Iterator[Leak]:
    """In one file; a binary one has none. Any assigned secret counts in a stack's file, elsewhere what has a prefix."""
    if b"\0" in data[:8192]:
        return
    text = data.decode("utf-8", errors="replace")
    everything = _STACK_FILE.fullmatch(Path(file).name) is not None
    if not everything and not any(value in text for value in known) and next(secrets(text), None) is None:
        return
    for number, line in enumerate(text.splitlines(), 1):
        kinds = [f"the value of {name}" for value, name in known.items() if value in line]
        if "secure:" not in line and "encryptionsalt:" not in line and "encryptedkey:" not in line:
            kinds += [found.name for found in secrets(line) if everything or found.name in _OURS]
        if kinds:
            yield Leak(file, number, kinds[0])


def judge_secrets(leaks: Sequence[Leak], too_large: int) -> Finding:
    """One leaked key is a problem even after its removal: git keeps it."""
    if leaks:
        hint = "revoke each at its provider first, since git keeps what was committed; then take it out of the file"
        return Finding("secrets", "problem", f"keys in tracked files: {listed(map(str, leaks))}", hint)
    beside = f"; {too_large} file(s) over 5 MB were not read" if too_large else ""
    return Finding("secrets", "ok", f"no key in tracked files{beside}")


def _first(error: InvalidInput) -> str:
    first = error.problems[0]
    place = f"{first.file}:{first.line}" if first.line else first.file
    more = f", and {len(error.problems) - 1} more" if len(error.problems) > 1 else ""
    return f"{place}: {first.message}{more}"
