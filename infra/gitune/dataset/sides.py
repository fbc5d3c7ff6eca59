"""What a user may compare: a dataset that was built, a git revision, the files as they are now."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from gitune.dataset.build import build_dataset
from gitune.dataset.compare import Side, recorded_lines
from gitune.dataset.folder import dataset_folder
from gitune.dataset.restore import FINGERPRINT, find_dataset
from gitune.dataset.store import Store
from gitune.dataset.urls import shown_url
from gitune.errors import InvalidInput, Problem, UserError
from gitune.git import find_commit, merge_base, tree_of, unknown_revision_hint
from gitune.hints import did_you_mean, one_of
from gitune.project import Project, checked_agent
from gitune.spec import AgentSpec, read_agents

_HEXADECIMAL = re.compile(r"[0-9a-f]{3,7}")


def find_sides(project: Project, agent: str, before: str | None, after: str | None) -> tuple[Side, Side]:
    """Both sides of `dataset diff`, in git's words: nothing is HEAD and the files, A is A and the files, A..B both.

    A...B is B against the commit where it left A. Raises UserError, or InvalidInput with the lines of a revision whose
    dataset cannot be built.
    """
    root = project.root
    left, dots, right = (before or "HEAD").partition(".." if "..." not in (before or "") else "...")
    if not dots:
        return _side(project, agent, left), _side(project, agent, after) if after is not None else _now(project, agent)
    if after is not None:
        raise UserError(f"'{before}' names both sides already", hint=f"leave out '{after}'")
    left, right = left or "HEAD", right or "HEAD"
    if dots == "...":
        parted = merge_base(root, *(_commit(root, name) for name in (left, right)))
        return _at(root, agent, f"{before} from {parted[:9]}", parted), _side(project, agent, right)
    return _side(project, agent, left), _side(project, agent, right)


def _side(project: Project, agent: str, name: str) -> Side:
    """A git revision; else a dataset that was built here or published, by its fingerprint or the beginning of it."""
    root = project.root
    built = [path for path in _built(root) if path.startswith(name)]
    commit = find_commit(root, name)
    if built and commit:
        hint = f"write more digits of the dataset, or refs/heads/{name} for the branch"
        raise UserError(f"'{name}' is dataset {built[0][:12]} and commit {commit[:12]}", hint=hint)
    if commit:
        label = name if commit.startswith(name) else f"{name} ({commit[:9]})"
        return _at(root, agent, label, commit)
    if built or FINGERPRINT.fullmatch(name):
        folder = find_dataset(name, Store.of(project))
        return Side(f"{name} as it was built", folder.name, tuple(recorded_lines(folder)))
    raise _unknown(root, name)


def _built(root: Path) -> list[str]:
    return sorted(path.name for path in dataset_folder(root, "").glob("[0-9a-f]*"))


def _commit(root: Path, revision: str) -> str:
    commit = find_commit(root, revision)
    if commit is None:
        raise _unknown(root, revision)
    return commit


def _unknown(root: Path, name: str) -> UserError:
    hint = unknown_revision_hint(root, name)
    if hint is None and _HEXADECIMAL.fullmatch(name):
        known = [fingerprint[:12] for fingerprint in _built(root)]
        hint = f"datasets here: {', '.join(known)}" if known else "no dataset was built here: gitune dataset build"
    anything = "a branch, a tag or a commit of this git repository, or the fingerprint of a dataset that was built here"
    return UserError(f"no dataset and no git revision '{name}' here", hint=hint or anything)


def _now(project: Project, agent: str) -> Side:
    dataset = checked_agent(project, agent).dataset
    return Side("the files now", dataset.fingerprint, (*dataset.train, *dataset.validation))


def _at(root: Path, agent: str, label: str, commit: str) -> Side:
    """The dataset as the files of a commit make it, by today's rules."""
    revision = label.partition(" ")[0]
    with tree_of(root, commit) as tree:
        if not (tree / "agents" / agent / "agent.yaml").is_file():
            there = sorted(path.parent.name for path in tree.glob("agents/*/agent.yaml"))
            raise UserError(f"no agent '{agent}' at {label}", hint=did_you_mean(agent, there) or one_of(there))
        specs, problems = read_agents(tree)
        known = {spec.name: spec for spec in specs}
        if agent not in known:
            ours = [problem for problem in problems if problem.file.startswith(f"agents/{agent}/")]
            raise InvalidInput(_at_revision(ours or problems, revision))
        mixed = [known[name] for name in known[agent].dataset.mix or (agent,) if name in known]
        _share_downloads(root, tree)
        try:
            dataset = build_dataset(known[agent], tree)
        except InvalidInput as error:
            raise InvalidInput(_at_revision(error.problems, revision)) from error
        return Side(label, dataset.fingerprint, (*dataset.train, *dataset.validation), _notes(mixed, revision))


def _at_revision(problems: Iterable[Problem], revision: str) -> Iterable[Problem]:
    """Files as git names those of a revision: `main:agents/support/agent.yaml`."""
    for problem in problems:
        hint = problem.hint or ("git does not hold it there" if "no such file" in problem.message else None)
        yield replace(problem, file=f"{revision}:{problem.file}", hint=hint)


def _notes(specs: Iterable[AgentSpec], revision: str) -> tuple[str, ...]:
    sources = [source for spec in specs for source in spec.dataset.sources if source.is_remote and not source.sha256]
    return tuple(
        f"{shown_url(source.path)} has no sha256: read as it is today, not as it was at {revision}"
        for source in sources
    )


def _share_downloads(root: Path, tree: Path) -> None:
    """What was downloaded once is not downloaded again for a revision."""
    kept, link = root / ".gitune" / "sources", tree / ".gitune" / "sources"
    if kept.is_dir() and not link.parent.exists():
        link.parent.mkdir()
        link.symlink_to(kept, target_is_directory=True)
