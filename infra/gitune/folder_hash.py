"""What a folder's files are, as one hash: git's own where they are committed, of the files where they are not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from gitune.git import files_changed, files_in, find_commit, folders_at_head, is_repository
from gitune.hashing import sha256


def folder_hashes(root: Path, folder: str) -> dict[str, str]:
    """By name, of each folder in `folder`: "git:TREE", where TREE is `git rev-parse HEAD:folder/name`, if it is as it
    was committed; else "sha256:" over its files. What git ignores is not part of it."""
    if not is_repository(root):
        files = (path for path in sorted((root / folder).rglob("*")) if path.is_symlink() or path.is_file())
        return _of_files(root, folder, (path.relative_to(root).as_posix() for path in files))
    committed = find_commit(root, "HEAD") is not None
    trees = folders_at_head(root, folder) if committed else {}
    touched = {_name(file, folder) for file in files_changed(root, folder)} if committed else set()
    clean = {name: f"git:{tree}" for name, tree in trees.items() if name not in touched}
    others = (file for file in files_in(root, folder) if _name(file, folder) not in clean)
    return {**clean, **_of_files(root, folder, others)}


def _of_files(root: Path, folder: str, files: Iterable[str]) -> dict[str, str]:
    parts: dict[str, list[str]] = {}
    for file in files:
        path = root / file
        if file.count("/") > folder.count("/") + 1 and (path.is_symlink() or path.is_file()):
            parts.setdefault(_name(file, folder), []).append(f"{file}\0{_content(path)}")
    return {name: f"sha256:{sha256(lines)}" for name, lines in parts.items()}


def _name(file: str, folder: str) -> str:
    return file.removeprefix(f"{folder}/").partition("/")[0]


def _content(path: Path) -> str:
    if path.is_symlink():
        return f"link:{path.readlink()}"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
