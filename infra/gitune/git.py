"""What git knows: revisions, and the files of one. Never touches the user's checkout or index."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from gitune.errors import UserError
from gitune.hints import did_you_mean

_QUIET = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "advice.detachedHead=false")
"""No hook of the user's runs because gitune reads or tags."""


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
        hint = SHALLOW if is_shallow(root) else "write two dots to compare them as they are"
        raise UserError(f"'{left}' and '{right}' have no commit in common", hint=hint)
    return found.stdout.strip()


def unknown_revision_hint(root: Path, revision: str) -> str | None:
    """What the user may have meant, or why a clone lacks it."""
    if not is_repository(root):
        return None
    refs = _git(root, "for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/tags", "refs/remotes").stdout
    known, name = ["HEAD", *refs.split()], re.split(r"[~^@]", revision)[0]
    if name in known:
        return SHALLOW if is_shallow(root) else f"the history of '{name}' is shorter"
    elsewhere = next((ref for ref in known if ref.endswith(f"/{name}")), None)
    meant = f"did you mean '{elsewhere}'?" if elsewhere else did_you_mean(name, known)
    return meant or (SHALLOW if is_shallow(root) else None)


def is_repository(root: Path) -> bool:
    """Whether git is installed and `root` is inside a repository that has commits or may get some."""
    try:
        return _git(root, "rev-parse", "--git-dir", check=False).returncode == 0
    except UserError:
        return False


def remote_commit(url: str, ref: str) -> str | None:
    """The commit of a tag or branch of a repository elsewhere; None where it has neither. Raises UserError."""
    names = (f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}", f"refs/heads/{ref}")
    lines = _git(Path.cwd(), "ls-remote", "--end-of-options", url, *names).stdout.splitlines()
    found = {name: commit for commit, name in (line.split("\t", 1) for line in lines)}
    return next((found[name] for name in names if name in found), None)


def top_folder(root: Path) -> Path | None:
    """The root of the repository's working tree; None outside of one, and where git is missing."""
    if not is_repository(root):
        return None
    shown = _git(root, "rev-parse", "--show-toplevel", check=False).stdout.strip()
    return Path(shown) if shown else None


def start_repository(root: Path) -> None:
    """`git init`, with the branch main. Raises UserError."""
    _git(root, "init", "--quiet", "--initial-branch=main")


def own_email(root: Path) -> str:
    """The e-mail address that git writes into commits here; empty where it knows none."""
    return _git(root, "config", "user.email", check=False).stdout.strip()


def is_shallow(root: Path) -> bool:
    """A clone whose history was cut, as actions/checkout makes it."""
    return _git(root, "rev-parse", "--is-shallow-repository", check=False).stdout.strip() == "true"


def text_at(root: Path, commit: str, file: str) -> str:
    """A file as a commit has it; `file` is below the repository, or below `root` as ./file. Raises UserError."""
    return _git(root, "show", f"{commit}:{file}").stdout


def file_at(root: Path, commit: str, file: str) -> str | None:
    """A file below `root` as a commit has it; None where it has none."""
    found = _git(root, "cat-file", "blob", f"{commit}:./{file}", check=False)
    return None if found.returncode else found.stdout


def files_between(root: Path, old: str, new: str, pattern: str) -> list[str]:
    """The files below `root` that a glob means, and that are not the same in two commits. Raises UserError."""
    same = ("--name-only", "--no-ext-diff", "--no-renames", "--relative", "-z")
    said = _git(root, "diff", *same, old, new, "--", f":(glob){pattern}").stdout
    return sorted(path for path in said.split("\0") if path)


def changed_since(root: Path, commit: str, folder: str, *, without: Sequence[str]) -> bool:
    """Whether a commit after `commit` changed a file in the folder, those excepted. Raises UserError."""
    excepted = [f":(exclude){path}" for path in without]
    return bool(_git(root, "log", "-1", "--format=%H", f"{commit}..HEAD", "--", folder, *excepted).stdout.strip())


def remote_url(root: Path, remote: str) -> str | None:
    """Where a remote is; None where there is none."""
    if not is_repository(root):
        return None
    return _git(root, "remote", "get-url", remote, check=False).stdout.strip() or None


def changes_beside(root: Path, patterns: Sequence[str]) -> bool:
    """Whether files below `root` differ from HEAD, those excepted that the globs mean. Raises UserError."""
    without = [f":(exclude,glob){pattern}" for pattern in patterns]
    return bool(_git(root, "status", "--porcelain", "--untracked-files=normal", "--", ".", *without).stdout.strip())


def folders_at_head(root: Path, folder: str) -> dict[str, str]:
    """By name, the tree hash of each folder in `folder` as HEAD has it; empty where nothing is committed."""
    listed = _git(root, "ls-tree", "-z", "HEAD", f"{folder}/", check=False).stdout
    rows = (row.partition("\t") for row in listed.split("\0") if row)
    return {path.rpartition("/")[2]: facts.split()[2] for facts, _, path in rows if facts.split()[1] == "tree"}


def files_in(root: Path, folder: str) -> list[str]:
    """The files in `folder` that are tracked, or that git does not ignore, below `root`."""
    listed = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", folder).stdout
    return sorted({path for path in listed.split("\0") if path})


def tracked_files(root: Path) -> list[str]:
    """The files in git's index, below `root`."""
    return sorted({path for path in _git(root, "ls-files", "-z", "--cached").stdout.split("\0") if path})


def files_changed(root: Path, folder: str) -> list[str]:
    """The files in `folder` that are not as HEAD has them, and those that it lacks and git does not ignore."""
    changed = _git(root, "diff", "--name-only", "--no-ext-diff", "--relative", "-z", "HEAD", "--", folder).stdout
    new = _git(root, "ls-files", "-z", "--others", "--exclude-standard", "--", folder).stdout
    return sorted({path for path in (changed + new).split("\0") if path})


class Person(NamedTuple):
    """As .mailmap has them."""

    name: str
    email: str


@dataclass(frozen=True, slots=True)
class FileChange:
    """What a commit made of a file."""

    file: str
    """Below the folder that was asked about."""
    blob: str | None
    """The hash of its content; None: deleted."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit, and what it made of the files that were asked about."""

    commit: str
    parents: tuple[str, ...]
    author: Person
    committer: Person
    when: datetime
    """UTC; when it was committed, not written."""
    message: str
    changes: tuple[FileChange, ...]


def branch_changes(root: Path, pattern: str) -> list[Commit]:
    """What each commit of the checked-out branch made of the files that a glob below `root` means, newest first.

    The branch is its first parents: a merge is one change of it, whatever was done on the side. Nothing outside a
    repository.
    """
    return _commits(root, pattern, "--first-parent", "--diff-merges=first-parent")


def side_changes(root: Path, pattern: str) -> list[Commit]:
    """All merges, and all other commits that changed such a file, newest first, children before their parents.

    `parents` leaves out what is left out. Merges have no changes of their own.
    """
    return _commits(root, pattern, "--full-history", "--parents", "--topo-order", "--diff-merges=off")


def _commits(root: Path, pattern: str, *which: str) -> list[Commit]:
    if find_commit(root, "HEAD") is None:
        return []
    format_ = "--format=%x00" + "".join(f"{field}%x00" for field in _FIELDS)
    same = ("--no-color", "--no-show-signature", "--use-mailmap", "--encoding=UTF-8", "--no-renames", "--no-abbrev")
    said = _git(root, "log", *which, *same, "--raw", "--relative", "-z", format_, "--", f":(glob){pattern}").stdout
    words = iter(said.split("\0"))
    found: list[tuple[list[str], list[FileChange]]] = []
    for word in words:
        text = word.lstrip("\n")
        if text.startswith(":"):
            _, mode, _, blob, status = text.split(" ")
            found[-1][1].append(FileChange(next(words), None if status == "D" or mode == _SUBMODULE else blob))
        elif text:  # the first field; the others may be empty, and are taken by their number
            found.append(([text, *(next(words) for _ in _FIELDS[1:])], []))
    return [_commit(fields, changes) for fields, changes in found]


_FIELDS = ("%H", "%P", "%aN", "%aE", "%cN", "%cE", "%cI", "%B")
_SUBMODULE = "160000"


def _commit(fields: Sequence[str], changes: Sequence[FileChange]) -> Commit:
    commit, parents, author, author_email, committer, committer_email, when, message = fields
    return Commit(
        commit,
        tuple(parents.split()),
        Person(author, author_email),
        Person(committer, committer_email),
        datetime.fromisoformat(when).astimezone(UTC),
        message.strip("\n"),
        tuple(changes),
    )


def read_blobs(root: Path, blobs: Collection[str]) -> dict[str, bytes]:
    """The contents by hash, in one process; what the clone does not hold is left out. Raises UserError."""
    wanted = list(dict.fromkeys(blobs))
    if not wanted:
        return {}
    said = _run(root, ("cat-file", "--batch"), stdin="".join(f"{blob}\n" for blob in wanted).encode()).stdout
    found, place = {}, 0
    for blob in wanted:
        end = said.index(b"\n", place)
        head = said[place:end].split()
        place = end + 1
        if head[-1] != b"missing":
            size = int(head[-1])
            found[blob] = said[place : place + size]
            place += size + 1
    return found


def shallow_boundary(root: Path) -> frozenset[str]:
    """The commits at which a shallow clone was cut: what was before them is not known here."""
    where = _git(root, "rev-parse", "--git-path", "shallow", check=False)
    file = root / where.stdout.strip()
    return frozenset(file.read_text().split()) if where.returncode == 0 and file.is_file() else frozenset()


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag of any kind."""

    name: str
    commit: str
    annotated: bool
    """Others have neither a person, nor a time or message of their own."""
    who: Person
    when: datetime | None
    """UTC."""
    message: str


def tags_of(root: Path) -> list[Tag]:
    """All tags, by name. Nothing outside a repository."""
    if not is_repository(root):
        return []
    said = _git(root, "for-each-ref", f"--format={'%00'.join(_TAG_FIELDS)}%00", "refs/tags").stdout
    words = said.split("\0")
    return [_tag(*words[start : start + len(_TAG_FIELDS)]) for start in range(0, len(words) - 1, len(_TAG_FIELDS))]


_TAG_FIELDS = (
    "%(refname:lstrip=2)",
    "%(objectname)",
    "%(*objectname)",
    "%(taggername)",
    "%(taggeremail:trim)",
    "%(taggerdate:iso-strict)",
    "%(contents)",
)


def _tag(name: str, own: str, meant: str, who: str, email: str, when: str, message: str) -> Tag:
    at = datetime.fromisoformat(when).astimezone(UTC) if when else None
    return Tag(name.lstrip("\n"), meant or own, bool(meant), Person(who, email), at, message.strip("\n"))


def create_tag(root: Path, name: str, commit: str, message: str) -> None:
    """Write an annotated tag, signed where the user's git signs tags. Raises UserError, such as for one that exists."""
    try:
        _run(root, ("tag", "--annotate", "--cleanup=verbatim", "--file=-", name, commit), stdin=message.encode())
    except UserError as error:
        said = "ident name" in error.message or "auto-detect" in error.message
        hint = "git config user.name ... and git config user.email ..., or GIT_COMMITTER_NAME and GIT_COMMITTER_EMAIL"
        raise UserError(f"tag {name} was not written: {error.message}", hint=hint if said else None) from error


def delete_tags(root: Path, names: Sequence[str]) -> None:
    """Take back tags of this clone. Raises UserError."""
    _git(root, "tag", "--delete", *names)


def fetch_tags(root: Path, remote: str) -> None:
    """Have all tags of a remote. Raises UserError, also for a tag that is another one here."""
    _git(root, "fetch", "--quiet", "--no-auto-maintenance", "--end-of-options", remote, "refs/tags/*:refs/tags/*")


def push_tags(root: Path, remote: str, names: Sequence[str]) -> None:
    """All of them or none; those that the remote has already are fine. Raises UserError."""
    _git(root, "push", "--quiet", "--atomic", "--end-of-options", remote, *(f"refs/tags/{name}" for name in names))


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


SHALLOW = "this clone is shallow: git fetch --unshallow, or fetch-depth: 0 for actions/checkout"


def _git(
    root: Path, *arguments: str, check: bool = True, more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`_run`, as text."""
    done = _run(root, arguments, check=check, more=more)
    said, complained = (text.decode("utf-8", errors="replace") for text in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(done.args, done.returncode, said, complained)


def _run(
    root: Path,
    arguments: Sequence[str],
    *,
    check: bool = True,
    more: Mapping[str, str] | None = None,
    stdin: bytes = b"",
) -> subprocess.CompletedProcess[bytes]:
    """Run git in `root`. Raises UserError where it is missing, or fails and `check` is set."""
    # A hook that runs gitune sets GIT_DIR, GIT_INDEX_FILE and more for its own commands.
    ours = {name: value for name, value in os.environ.items() if name not in _LOCAL}
    try:
        done = subprocess.run(
            ["git", *_QUIET, "-C", str(root), *arguments],
            env={**ours, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", **(more or {})},
            input=stdin,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise UserError("git is not installed") from error
    if check and done.returncode:
        said = [line for line in done.stderr.decode("utf-8", errors="replace").splitlines() if line.strip()]
        told = next((line for line in said if line.startswith((" ! ", "fatal: ", "error: "))), (said or ["failed"])[0])
        raise UserError(f"git {arguments[0]}: {re.sub('^(fatal:|error:| !) ', '', told)[:200]}")
    return done


_LOCAL = frozenset(
    {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"}
)
