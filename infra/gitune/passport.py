"""The model passport: where a model came from, in one file that its lock names by hash.

`agents/<name>/passports/<SHA-256 of the file>.json`, beside the lock and committed with it. A passport is written once
and never changed: what is under a name is always the same, so a passport that no lock names does no harm, and the lock
of an earlier commit still finds its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gitune.dataset.manifest import FileFacts
from gitune.errors import InvalidInput, Problem, UserError
from gitune.files import write_atomic
from gitune.lock import Lock, lock_body, read_lock

SCHEMA: Literal["gitune.passport/1"] = "gitune.passport/1"
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class SourceRecord(_Value):
    """One file that examples came from."""

    agent: str
    file: str
    examples: int
    licence: str | None
    sha256: Annotated[_Sha256 | None, Field(description="Of its bytes when the passport was written.")]


class DatasetRecord(_Value):
    """The dataset that was trained on; its fingerprint is in the lock."""

    files: Annotated[Mapping[str, FileFacts], Field(description="All of its folder, the data card among them.")]
    sources: tuple[SourceRecord, ...]


class CodeRecord(_Value):
    """What was checked out when the gate judged."""

    gitune: Annotated[str, Field(description="The version of gitune.")]
    commit: Annotated[str | None, Field(description="None: outside git.")]
    dirty: Annotated[bool, Field(description="Files that gitune and its engine do not write differed from the commit.")]


class Evaluation(FileFacts):
    """inspect's log of one evaluation."""

    log: Annotated[str, Field(pattern=r"^logs/[^/]+$", description="Below .gitune of the machine that asked.")]


class Baseline(_Value):
    """What the model was compared with."""

    role: Literal["base model", "deployed model"]
    model_id: str | None
    accuracy: Annotated[float | None, Field(description="0 to 1; None: it gave no answers.")]
    reason: Annotated[str, Field(description="Why it gave none.")] = ""


class Passport(_Value):
    """Everything that is known of where a model came from."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, populate_by_name=True)

    schema_name: Annotated[Literal["gitune.passport/1"], Field(alias="schema")] = SCHEMA
    lock: Annotated[
        Mapping[str, Any],
        Field(
            description="The lock's fields: model, base model, method, hyperparameters, dataset, job, scores, verdict."
        ),
    ]
    lock_sha256: Annotated[_Sha256, Field(description="Of the lock's bytes up to the line that names this passport.")]
    dataset: Annotated[DatasetRecord | None, Field(description="None: trained outside gitune, or not on this machine.")]
    code: CodeRecord
    evaluations: Mapping[str, Evaluation]
    baselines: tuple[Baseline, ...] = ()


def lock_record(lock: Lock) -> dict[str, Any]:
    """The lock's fields as a passport holds them."""
    fields = {name: value for name, value in asdict(lock).items() if name != "passport"}
    plain: dict[str, Any] = json.loads(json.dumps(fields, default=str))  # YAML also knows dates
    return plain


def body_sha256(lock: Lock) -> str:
    """What `lock_sha256` is of a lock that gitune is about to write."""
    return hashlib.sha256(lock_body(lock).encode()).hexdigest()


def passport_text(passport: Passport) -> str:
    """The one spelling: sorted keys, two spaces, UTF-8, no NaN."""
    fields = passport.model_dump(mode="json", by_alias=True)
    return json.dumps(fields, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def passport_file(lock_file: Path, name: str) -> Path:
    """Where a passport is, by its SHA-256."""
    return lock_file.parent / "passports" / f"{name}.json"


def write_passport(lock_file: Path, passport: Passport) -> str:
    """Write it beside the lock, before the lock. Returns its SHA-256."""
    text = passport_text(passport)
    name = hashlib.sha256(text.encode()).hexdigest()
    write_atomic(passport_file(lock_file, name), text)
    return name


def parse_passport(data: bytes, file: str) -> Passport:
    """The passport in a file's bytes. Raises InvalidInput."""
    try:
        return Passport.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        message = f"not a passport: {f'{place}: ' if place else ''}{first['msg']}"
        raise InvalidInput([Problem(file, 0, message, "restore the file with git")]) from error


def read_passport(lock_file: Path, lock: Lock) -> Passport | None:
    """The passport that a lock names; None where it names none, or the file is missing or not what its name says.

    `gitune verify` tells these apart. Raises InvalidInput for a passport of another schema.
    """
    path = passport_file(lock_file, lock.passport or "")
    if lock.passport is None or not path.is_file():
        return None
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != lock.passport:
        return None
    return parse_passport(data, str(path))


def named_passport(lock_file: Path, agent: str) -> tuple[str, Passport]:
    """The passport of an agent's lock, with its SHA-256. Raises UserError or InvalidInput."""
    lock = read_lock(lock_file)
    if lock is None:
        raise UserError(f"{agent} has no lock in this stack", hint="name another stack: -s training")
    if lock.passport is None:
        raise UserError(f"the lock of {agent} names no passport: it was written before there were any")
    passport = read_passport(lock_file, lock)
    if passport is None:
        raise UserError(f"the passport of {agent} is missing or damaged", hint=f"run: gitune verify {agent}")
    return lock.passport, passport
