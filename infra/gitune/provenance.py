"""Writing a lock together with the passport of its model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gitune import __version__
from gitune.dataset.folder import dataset_folder
from gitune.dataset.manifest import MANIFEST_FILE, file_facts, read_manifest
from gitune.files import read_json
from gitune.git import changes_beside, find_commit
from gitune.lock import Lock, write_lock
from gitune.passport import (
    Baseline,
    CodeRecord,
    DatasetRecord,
    Evaluation,
    Passport,
    SourceRecord,
    body_sha256,
    lock_record,
    write_passport,
)
from gitune.project import Project


def code_record(project: Project) -> CodeRecord:
    """What is checked out now. Read it before locks are written that belong together. Raises UserError."""
    commit = find_commit(project.root, "HEAD")
    locks = [f"{project.stack.locks}/*/{name}" for name in ("model.lock.yaml", "passports/*")]
    written = [*locks, f"Pulumi.{project.stack.name}.yaml"]  # where the engine puts its salt
    return CodeRecord(gitune=__version__, commit=commit, dirty=bool(commit) and changes_beside(project.root, written))


def write_with_passport(
    project: Project,
    lock: Lock,
    code: CodeRecord,
    logs: Mapping[str, str] | None = None,
    baselines: Sequence[Baseline] = (),
) -> Lock:
    """The passport first, then the lock that names it: killed in between, nothing is wrong. Returns the lock written.

    `logs`: inspect's, by name, below .gitune.
    """
    path = project.lock_file(lock.agent)
    passport = Passport(
        lock=lock_record(lock),
        lock_sha256=body_sha256(lock),
        dataset=_dataset(project.root, lock.dataset["fingerprint"]),
        code=code,
        evaluations={name: _evaluation(project.state_folder, log) for name, log in (logs or {}).items()},
        baselines=tuple(baselines),
    )
    named = replace(lock, passport=write_passport(path, passport))
    write_lock(path, named)
    return named


def _evaluation(folder: Path, log: str) -> Evaluation:
    facts = file_facts(folder / log)
    return Evaluation(log=log, sha256=facts.sha256, size=facts.size)


def _dataset(root: Path, fingerprint: str | None) -> DatasetRecord | None:
    folder = dataset_folder(root, fingerprint or "none")
    manifest = read_manifest(folder)
    if manifest is None:
        return None
    sources = read_json(folder / MANIFEST_FILE).get("sources", ())
    names = (*sorted(manifest.files), MANIFEST_FILE)
    return DatasetRecord(
        files={name: file_facts(folder / name) for name in names},
        sources=tuple(_source(root, source) for source in sources),
    )


def _source(root: Path, facts: Mapping[str, object]) -> SourceRecord:
    """Local files are hashed now; of a remote one the hash was taken when it was read."""
    file = root / str(facts["file"])
    digest = facts["sha256"]
    if digest is None and file.is_file():
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return SourceRecord.model_validate(
        {**{name: facts[name] for name in ("agent", "file", "examples", "licence")}, "sha256": digest}
    )
