"""Does a lock say what its version's tag says? A version is one model, for ever."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gitune.errors import UserError
from gitune.git import tags_of, text_at
from gitune.gto import version_tag
from gitune.lock_facts import LockFacts, read_facts

_FIELDS = ("version", "provider", "model_id", "base_model", "method", "hyperparameters")
"""With the dataset's fingerprint, what makes a model. Scores may be taken again."""


def tagged_commits(root: Path) -> dict[str, str]:
    """The commit of every tag, by name. Nothing outside a repository."""
    return {tag.name: tag.commit for tag in tags_of(root)}


def tag_mismatch(root: Path, tags: Mapping[str, str], file: str, agent: str, lock: LockFacts) -> tuple[str | None, str]:
    """The tag of the lock's version, None where there is none; and what is different in its commit's lock, or nothing.

    `tags` are those of `tagged_commits`; `file` is the lock's, below `root`.
    """
    name = version_tag(agent, lock.version or "")
    if name not in tags:
        return None, ""
    try:
        tagged = read_facts(text_at(root, tags[name], f"./{file}").encode())
    except UserError:
        return name, f"its commit {tags[name][:12]} has no {file}"
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
