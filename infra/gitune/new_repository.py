"""A repository of a team that uses gitune, from templates. What is there already stays as it is."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from gitune import __version__
from gitune.errors import InvalidInput, Problem, UserError
from gitune.files import write_atomic
from gitune.git import start_repository, top_folder
from gitune.gitune_source import GituneSource
from gitune.hints import did_you_mean, one_of
from gitune.root import PROJECT_FILE
from gitune.spec import agent_schema
from gitune.templates import render
from gitune.yaml_source import parse_yaml

PROGRAM = "infra/__main__.py"
_FILES: Mapping[str, str] = {
    "Pulumi.dev.yaml": "Pulumi.dev.yaml",
    "Pulumi.training.yaml": "Pulumi.training.yaml",
    "Pulumi.production.yaml": "Pulumi.production.yaml",
    PROGRAM: "program.py",
    "agents/README.md": "agents.md",
    ".gitignore": "gitignore",
    "requirements.txt": "requirements.txt",
    "README.md": "README.md",
}
_GITHUB_FILES: Mapping[str, str] = {
    f".github/workflows/{name}.yml": f"{name}.yml" for name in ("plan", "train", "deploy", "drift")
} | {".github/dependabot.yml": "dependabot.yml"}
_OWNERS_FILE = ".github/CODEOWNERS"
_PLAN_FILE = ".github/workflows/plan.yml"
_USES = re.compile(
    r"uses: (?P<repository>[\w.-]+/[\w.-]+)/\.github/workflows/plan\.yml@(?P<commit>[0-9a-f]{40})(?: # (?P<ref>\S+))?"
)
_SCHEMA_FILE = "agents/agent.schema.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_OWNER = re.compile(r"@[A-Za-z0-9-]+(/[A-Za-z0-9_.-]+)?|[^@\s]+@[^@\s]+\.[^@\s]+")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the new repository is called, where its gitune comes from, and who owns what decides."""

    name: str
    """Of the Pulumi project: it is in every resource's URN, so it does not change later."""
    source: GituneSource | None
    """None: no workflows."""
    owners: tuple[str, ...] = ()
    """Users, teams or e-mail addresses, as CODEOWNERS has them. Empty: no CODEOWNERS."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UserError(f"'{self.name}' cannot be a project's name", hint="letters, digits and _ . -, at most 100")
        for owner in self.owners:
            if not _OWNER.fullmatch(owner):
                raise UserError(f"'{owner}' cannot own code", hint="write @user, @org/team or an e-mail address")


@dataclass(frozen=True, slots=True)
class Draft:
    """What would be written, all of it checked."""

    folder: Path
    written: Mapping[str, str]
    """File → text, in the order of writing: Pulumi.yaml comes last, and says that the others are there."""
    same: tuple[str, ...]
    """Files that are there, as they would be written."""
    kept: tuple[str, ...]
    """Files that are there and say something else."""
    git_root: Path | None
    """Of the git repository that the folder is in; None: it is in none."""


def project_name(folder: Path) -> str:
    """The name of the project in the folder, or one for a new project there."""
    named = _yaml(folder / PROJECT_FILE).get("name")
    return str(named or re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.resolve().name).strip("-.")[:100] or "agents")


def written_source(folder: Path) -> GituneSource | None:
    """The gitune that the workflows in the folder call; None where there are none of ours."""
    call = _USES.search(_text(folder / _PLAN_FILE))
    return GituneSource(call["repository"], call["commit"], call["ref"] or "") if call else None


def written_owners(folder: Path) -> tuple[str, ...]:
    """Who owns the workflows by the CODEOWNERS in the folder."""
    rules = (line.split() for line in _text(folder / _OWNERS_FILE).splitlines())
    return next((tuple(owners) for path, *owners in filter(None, rules) if path == "/.github/"), ())


def repository_files(wanted: Wanted) -> dict[str, str]:
    """File → text of the whole repository."""
    templates = {**_FILES, **(_GITHUB_FILES if wanted.source else {})}
    if wanted.source and wanted.owners:
        templates |= {_OWNERS_FILE: "CODEOWNERS"}
    values = {"name": wanted.name, "source": wanted.source, "owners": wanted.owners, "version": __version__}
    files = {path: render(template, values) for path, template in templates.items()}
    files[_SCHEMA_FILE] = json.dumps(agent_schema(), indent=2, ensure_ascii=False) + "\n"
    return files | {PROJECT_FILE: render("Pulumi.yaml", values)}


def draft_repository(folder: Path, wanted: Wanted, force: Collection[str] = ()) -> Draft:
    """Compare with what is there. `force` names files, or folders of them, that are written anew. Writes nothing.

    Raises InvalidInput or UserError.
    """
    files = repository_files(wanted)
    forced = _forced(force, files)
    problems = [problem for path in files if (problem := _obstacle(folder, path))]
    if not problems:
        problems = _foreign_project(folder)
    if problems:
        raise InvalidInput(problems)
    found = {path: (folder / path).read_bytes() for path in files if (folder / path).is_file()}
    same = tuple(path for path, content in found.items() if content == files[path].encode())
    kept = tuple(path for path in found if path not in same and path not in forced)
    written = {path: text for path, text in files.items() if path not in same and path not in kept}
    return Draft(folder, written, same, kept, top_folder(_nearest(folder)))


def write_repository(draft: Draft) -> None:
    """Write what the draft says. Killed in between, the same command goes on. Outside of git, `git init` follows."""
    draft.folder.mkdir(parents=True, exist_ok=True)
    for path, text in draft.written.items():
        write_atomic(draft.folder / path, text)
    if draft.git_root is None and shutil.which("git"):
        start_repository(draft.folder)


def _forced(force: Collection[str], files: Mapping[str, str]) -> set[str]:
    forced: set[str] = set()
    for name in force:
        plain = name.removeprefix("./").rstrip("/")
        meant = {path for path in files if path == plain or path.startswith(f"{plain}/")}
        if not meant:
            hint = did_you_mean(plain, files) or one_of(files)
            raise UserError(f"'{name}' is no file of a new repository", hint=hint)
        forced |= meant
    return forced


def _obstacle(folder: Path, path: str) -> Problem | None:
    """Why a file cannot be written there, or would be written elsewhere."""
    place = folder
    if folder.exists() and not folder.is_dir():
        return Problem(str(folder), 0, "not a folder")
    parts = path.split("/")
    for number, part in enumerate(parts, start=1):
        place, last = place / part, number == len(parts)
        if place.is_symlink():
            hint = "replace it by what it names"
            return Problem("/".join(parts[:number]), 0, "a link, which could lead elsewhere", hint)
        if place.exists() and place.is_dir() == last:
            return Problem("/".join(parts[:number]), 0, "a folder, not a file" if last else "a file, not a folder")
    return None


def _foreign_project(folder: Path) -> list[Problem]:
    """Pulumi.yaml is written last, so one without our program is somebody else's."""
    if not (folder / PROJECT_FILE).exists():
        return []
    program = folder / PROGRAM
    if program.is_file() and b"gitune" in program.read_bytes():
        return []
    return [
        Problem(PROJECT_FILE, 0, "a Pulumi project of another kind is here", "give the agents a folder of their own")
    ]


def _nearest(folder: Path) -> Path:
    """The folder, or the first above it that exists."""
    return next(place for place in (folder.resolve(), *folder.resolve().parents) if place.is_dir())


def _text(file: Path) -> str:
    return file.read_bytes().decode("utf-8", errors="replace") if file.is_file() else ""


def _yaml(file: Path) -> Mapping[str, object]:
    data = parse_yaml(_text(file).encode(), file.name).data
    return data if isinstance(data, dict) else {}
