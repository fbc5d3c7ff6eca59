"""model.lock.yaml: the model that should be in production, and the evidence for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from gitune.errors import InvalidInput, Problem
from gitune.files import write_atomic
from gitune.yaml_source import parse_yaml

_SHORT = 180
MAX_BYTES = 1_000_000
_HEADER = "# Written by gitune. Merging this file deploys the model; reverting it rolls back.\n"


@dataclass(frozen=True, slots=True)
class Lock:
    """The fields in the order in which a reviewer reads them."""

    agent: str
    version: str
    """SemVer: major for base model or method, minor for dataset or hyperparameters."""
    provider: str
    model_id: str
    base_model: str
    method: str
    hyperparameters: Mapping[str, Any]
    dataset: Mapping[str, Any]
    """fingerprint (SHA-256) and examples (their count)."""
    job: Mapping[str, Any]
    """id, key (the training key), seconds, cost_usd as the provider told it, estimated_usd (low, expected, high).
    passed_over: why the candidates before it did not train it."""
    benchmark: Mapping[str, Any]
    """cases (count), missing (answers without a score), fingerprint (of the cases and of what decides a score),
    accuracy and base_accuracy (0 to 1 or null), latency_seconds (median), scorer, runs, logs (inspect's, of the
    challenger, of its latency and of the base model)."""
    verdict: Mapping[str, Any]
    """outcome and reasons."""
    passport: str | None = None
    """SHA-256 of the model's passport; None in a lock that was written before there were any."""


def read_lock(path: Path) -> Lock | None:
    """The lock, or None when there is no file. Raises InvalidInput for one that is not a lock."""
    if not path.is_file():
        return None
    if path.stat().st_size > MAX_BYTES:
        raise InvalidInput([Problem(str(path), 0, "not a lock: larger than 1 MB", "restore the file with git")])
    return parse_lock(path.read_bytes(), str(path))


def parse_lock(data: bytes, file: str) -> Lock:
    """The lock in a file's bytes. Raises InvalidInput for what is not a lock."""
    source = parse_yaml(data, file)
    if source.problems:
        raise InvalidInput(source.problems)
    names = set(Lock.__dataclass_fields__)
    found = {"passport", *source.data} if isinstance(source.data, dict) else set()  # old locks have none
    if found != names:
        wrong = sorted(names ^ found)[0]
        message = f"not a lock: '{wrong}' is {'missing' if wrong in names else 'unknown'}"
        raise InvalidInput([Problem(file, 1, message, "restore the file with git, or delete it and run gitune up")])
    return Lock(**source.data)


def write_lock(path: Path, lock: Lock) -> None:
    """Replace the file in one step."""
    write_atomic(path, lock_body(lock) + (passport_line(lock.passport) if lock.passport else ""))


class _Dumper(yaml.SafeDumper):
    """Short lists and short mappings in one line, so that a lock fits on a screen; one line for everything else."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
        return super().represent_sequence(tag, sequence, _is_short(list(sequence)))

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        return super().represent_mapping(tag, mapping, _is_short(mapping))


def _is_short(value: list[Any] | Mapping[str, Any]) -> bool:
    """Of numbers and single words. A text stands in a line of its own, where a diff shows it."""
    items = list(value.values()) if isinstance(value, Mapping) else value
    plain = all(not isinstance(item, (list, tuple, dict)) and " " not in str(item) for item in items)
    return plain and len(str(value)) <= _SHORT


def lock_body(lock: Lock) -> str:
    """The file without its last line, which names the passport: what the passport pins."""
    fields = {name: value for name, value in asdict(lock).items() if name != "passport"}
    return _HEADER + yaml.dump(fields, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def passport_line(passport: str) -> str:
    """The last line of a lock."""
    return yaml.safe_dump({"passport": passport})


def next_version(previous: Lock | None, lock: Lock, taken: Mapping[str, tuple[str, str]] | None = None) -> str:
    """The version of `lock`, which follows `previous`. Its own `version` is not looked at.

    `taken`: the (provider, model ID) of every version that the agent had. After a rollback the next number may be one
    of them; no number is given to two models.
    """
    part = 0 if previous is None else _changed_part(previous, lock)
    if previous is not None and part is None:
        return previous.version
    numbers = (0, 0, 0) if previous is None else tuple(int(number) for number in previous.version.split("."))
    model, free = (lock.provider, lock.model_id), _raised(numbers, part or 0)
    while (taken or {}).get(_written(free), model) != model:
        free = _raised(free, part or 0)
    return _written(free)


def _changed_part(previous: Lock, lock: Lock) -> int | None:
    """Which number goes up: 0 the major, 1 the minor, 2 the patch; None: it is the same model."""
    if (previous.base_model, previous.method) != (lock.base_model, lock.method):
        return 0
    if previous.dataset["fingerprint"] != lock.dataset["fingerprint"]:
        return 1
    if dict(previous.hyperparameters) != dict(lock.hyperparameters):
        return 1
    return 2 if (previous.provider, previous.model_id) != (lock.provider, lock.model_id) else None


def _raised(version: tuple[int, ...], part: int) -> tuple[int, ...]:
    return (*version[:part], version[part] + 1, *(0 for _ in version[part + 1 :]))


def _written(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
