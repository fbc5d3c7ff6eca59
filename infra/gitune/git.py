"""What git knows: revisions, and the files of one. Never touches the user's checkout or index."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from gitune.errors import UserError
from gitune.hints import did_you_mean

_QUIET = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "advice.detachedHead=false")
"""No hook of the user's runs because gitune reads."""


def find_commit(root: Path, revision: str) -> str | None:
    """The full hash of what a branch, a tag, `HEAD~1` or a short hash names; None where git knows no such thing."""
    if not revision or not is_repository(root):
        return None
    spoken = f"{revision}^{{commit}}"
    found = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", spoken, check=False)
    return found.stdout.strip() or None


def merge_base(root: Path, left: str, right: str) -> str:
    """The commit where two revisions parted. Raises UserError."""
    found = _git(root, "merge-base", left, right, check=False)
    if found.returncode:
        hint = _SHALLOW if is_shallow(root) else "write two dots to compare them as they are"
        raise UserError(f"'{left}' and '{right}' have no commit in common", hint=hint)
    return found.stdout.strip()


def unknown_revision_hint(root: Path, revision: str) -> str | None:
    """What the user may have meant, or why a clone lacks it."""
    if not is_repository(root):
        return None
    refs = _git(root, "for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/tags", "refs/remotes").stdout
    known, name = ["HEAD", *refs.split()], re.split(r"[~^@]", revision)[0]
    if name in known:
        return _SHALLOW if is_shallow(root) else f"the history of '{name}' is shorter"
    elsewhere = next((ref for ref in known if ref.endswith(f"/{name}")), None)
    meant = f"did you mean '{elsewhere}'?" if elsewhere else did_you_mean(name, known)
    return meant or (_SHALLOW if is_shallow(root) else None)


def is_repository(root: Path) -> bool:
    """Whether git is installed and `root` is inside a repository that has commits or may get some."""
    try:
        return _git(root, "rev-parse", "--git-dir", check=False).returncode == 0
    except UserError:
        return False


def is_shallow(root: Path) -> bool:
    """A clone whose history was cut, as actions/checkout makes it."""
    return _git(root, "rev-parse", "--is-shallow-repository", check=False).stdout.strip() == "true"


def versions_of(root: Path, pattern: str) -> list[tuple[str, datetime, str]]:
    """(commit, its time, file) of each version of the files that a glob below `root` means, oldest first.

    A file's name is relative to the repository, as `text_at` takes it. Nothing outside a repository.
    """
    if find_commit(root, "HEAD") is None:
        return []
    wanted = ("--diff-filter=AM", "--reverse", "--name-only", "--no-renames", "-z", "--format=%H %cI")
    said = _git(root, "log", *wanted, "--", f":(glob){pattern}").stdout
    versions, commit, when = [], "", ""
    for word in filter(None, (word.strip("\n") for word in said.split("\0"))):
        if _VERSION.fullmatch(word):
            commit, _, when = word.partition(" ")
        else:
            versions.append((commit, datetime.fromisoformat(when).astimezone(UTC), word))
    return versions


_VERSION = re.compile(r"[0-9a-f]{40,64} \d{4}-\d\d-\d\dT\S+")


def text_at(root: Path, commit: str, file: str) -> str:
    """A file as a commit has it. Raises UserError."""
    return _git(root, "show", f"{commit}:{file}").stdout


@contextmanager
def tree_of(root: Path, commit: str) -> Iterator[Path]:
    """A temporary folder with the files below `root` as they were at `commit`, as a checkout would write them.

    By `git checkout-index`, because `git archive` leaves out what is marked export-ignore. Submodules stay empty.
    Raises UserError.
    """
    with tempfile.TemporaryDirectory(prefix="gitune-tree-") as work:
        folder = Path(work) / "tree"
        folder.mkdir()
        below = _git(root, "rev-parse", "--show-prefix").stdout.strip()
        if below and _git(root, "cat-file", "-e", f"{commit}:{below}", check=False).returncode:
            raise UserError(f"no folder '{below}' at {commit[:12]}")
        # A checkout of its own, with its own index.
        repository = _git(root, "rev-parse", "--absolute-git-dir").stdout.strip()
        ours = {"GIT_DIR": repository, "GIT_WORK_TREE": str(folder), "GIT_INDEX_FILE": str(Path(work) / "index")}
        _git(folder, "read-tree", f"{commit}:{below}" if below else commit, more=ours)
        _git(folder, "checkout-index", "--all", "--force", "--quiet", more=ours)
        yield folder


_SHALLOW = "this clone is shallow: git fetch --unshallow, or fetch-depth: 0 for actions/checkout"


def _git(
    root: Path, *arguments: str, check: bool = True, more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run git in `root`. Raises UserError where it is missing, or fails and `check` is set."""
    # A hook that runs gitune sets GIT_DIR, GIT_INDEX_FILE and more for its own commands.
    ours = {name: value for name, value in os.environ.items() if name not in _LOCAL}
    try:
        done = subprocess.run(
            ["git", *_QUIET, "-C", str(root), *arguments],
            env={**ours, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", **(more or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError as error:
        raise UserError("git is not installed") from error
    if check and done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise UserError(f"git {arguments[0]}: {said[0].removeprefix('fatal: ')[:200] if said else 'failed'}")
    return done


_LOCAL = frozenset(
    {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"}
)
