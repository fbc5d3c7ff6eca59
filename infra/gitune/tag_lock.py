"""Does a lock say what its version's tag says? A version is one model, for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gitune.errors import UserError
from gitune.git import find_commit, text_at
from gitune.gto import version_tag
from gitune.lock_facts import LockFacts, read_facts

_FIELDS = ("version", "provider", "model_id", "base_model", "method", "hyperparameters")
"""With the dataset's fingerprint, what makes a model. Scores may be taken again."""


def tag_mismatch(root: Path, file: str, agent: str, lock: LockFacts) -> tuple[str | None, str]:
    """The tag of the lock's version, None where there is none; and what is different in its commit's lock, or nothing.

    `file` is the lock's, below `root`.
    """
    name = version_tag(agent, lock.version or "")
    commit = find_commit(root, f"refs/tags/{name}")
    if commit is None:
        return None, ""
    try:
        tagged = read_facts(text_at(root, commit, f"./{file}").encode())
    except UserError:
        return name, f"its commit {commit[:12]} has no {file}"
    return name, tagged.problem or _difference(tagged, lock)


def _difference(tagged: LockFacts, lock: LockFacts) -> str:
    for field in _FIELDS:
        if tagged.data.get(field) != lock.data.get(field):
            return _told(field, tagged.data.get(field), lock.data.get(field))
    if tagged.fingerprint != lock.fingerprint:
        return _told("dataset.fingerprint", tagged.fingerprint, lock.fingerprint)
    return ""


def _told(field: str, there: Any, here: Any) -> str:
    return f"{field} is {there} in the tag, {here} in the lock"
