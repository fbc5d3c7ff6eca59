"""What the engine recorded: read from a `file://` backend, and mended there after a kill -9.

Other backends are asked through the engine, whose words say who holds a lock there; see stack.py.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from gitune.files import read_json
from gitune.hashing import canonical_json, sha256

RESOURCE_PREFIX = "pulumi-python:dynamic/gitune:"
_LONGEST_PASS_SECONDS = 600.0
_WATCHED_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class EngineLock:
    """A lock file of the engine, and who wrote it."""

    place: str
    """Its path, or its URL in a bucket."""
    pid: int
    user: str
    host: str
    since: datetime

    @classmethod
    def parsed(cls, place: str, data: bytes) -> EngineLock | None:
        """A lock file's content. None: it is being written or removed in this very moment."""
        try:
            facts = json.loads(data)
            since = datetime.fromisoformat(facts["timestamp"])
            return cls(place, int(facts["pid"]), str(facts["username"]), str(facts["hostname"]), since)
        except (ValueError, KeyError, TypeError):
            return None

    @property
    def foreign(self) -> bool:
        """Its owner runs, or ran, on another machine."""
        return self.host != socket.gethostname()

    @property
    def dead(self) -> bool:
        """Its owner ran on this machine and is gone. A lock of another machine is never called dead."""
        if self.foreign:
            return False
        try:
            process = psutil.Process(self.pid)
            started = process.create_time()
            # a process that started after the lock was written only has the owner's number
            return bool(started > self.since.timestamp() + 2) or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    def abandoned(self, now: datetime, watched_seconds: float) -> bool:
        """Whether waiting for its owner on another machine has lost its sense: each pass takes a lock of its own.

        It is older than any pass by its own clock, and has been watched for a while by ours: clocks may differ.
        """
        age = (now - self.since).total_seconds()
        return self.foreign and age > _LONGEST_PASS_SECONDS and watched_seconds > _WATCHED_SECONDS

    def __str__(self) -> str:
        return f"{self.user}@{self.host}, process {self.pid}, since {self.since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


@dataclass(frozen=True, slots=True)
class FileState:
    """A stack's checkpoint and locks below a local folder."""

    folder: Path
    project: str
    stack: str

    @classmethod
    def at(cls, backend_url: str, root: Path, project: str, stack: str) -> FileState | None:
        """None when the backend is not a local folder."""
        parts = urlsplit(backend_url)
        if parts.scheme != "file":
            return None
        return cls(root / Path(f"{parts.netloc}{parts.path}").expanduser() / ".pulumi", project, stack)

    @property
    def checkpoint_file(self) -> Path:
        return self.folder / "stacks" / self.project / f"{self.stack}.json"

    def locks(self) -> Iterator[EngineLock]:
        for path in sorted((self.folder / "locks" / "organization" / self.project / self.stack).glob("*.json")):
            try:
                lock = EngineLock.parsed(str(path), path.read_bytes())
            except FileNotFoundError:  # released since
                continue
            if lock is not None:
                yield lock

    def remove_lock(self, lock: EngineLock) -> None:
        for path in (lock.place, f"{lock.place}.attrs"):
            Path(path).unlink(missing_ok=True)

    def deployment(self) -> Mapping[str, Any]:
        """The latest deployment; empty before the first one."""
        data = read_json(self.checkpoint_file)
        latest: Mapping[str, Any] = (data or {}).get("checkpoint", {}).get("latest") or {}
        return latest


_TOLD = re.compile(
    r"^\s*(?P<place>\S+): created by (?P<user>.*)@(?P<host>[^@\s]+) \(pid (?P<pid>\d+)\) at (?P<since>\S+)$",
    re.MULTILINE,
)


def told_locks(words: str) -> tuple[EngineLock, ...]:
    """The locks that the engine names when it refuses: checkForLock in pkg/backend/diy/lock.go of Pulumi 3.259."""
    return tuple(
        EngineLock(told["place"], int(told["pid"]), told["user"], told["host"], datetime.fromisoformat(told["since"]))
        for told in _TOLD.finditer(words)
    )


def resource_outputs(deployment: Mapping[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """Outputs by agent of all resources of a kind, such as FineTunedModel."""
    found = (r for r in deployment.get("resources", ()) if r["type"] == RESOURCE_PREFIX + kind)
    return {r["outputs"]["agent"]: r["outputs"] for r in found if "agent" in r.get("outputs", {})}


def without_pending(deployment: Mapping[str, Any]) -> dict[str, Any]:
    """The deployment without its pending operations.

    Each of ours may be repeated: what it did before it was killed is found again by training key, by content or by
    alias. So nothing is lost, and nobody has to edit state.
    """
    return {name: value for name, value in deployment.items() if name != "pending_operations"}


def state_version(deployment: Mapping[str, Any]) -> str:
    """Hex SHA-256 over what is recorded of resources, whenever and by which engine it was written."""
    resources = [
        {name: value for name, value in resource.items() if name not in ("created", "modified")}
        for resource in deployment.get("resources", ())
    ]
    return sha256([canonical_json(resources)])
