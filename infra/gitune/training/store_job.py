# /// script
# requires-python = ">=3.11"
# dependencies = ["fsspec"]
# ///
"""A job on a cluster: fetch from a store what to train, run sft.py, put the adapter and the outcome into the store.

    python store_job.py SCRIPT STORE NAME SUBMISSION

STORE is a folder that fsspec can open, here and on the cluster; SCRIPT is where this very file lies in it.

    data/<SHA-256>             files by content: the examples, sft.py, this script; written once
    jobs/<NAME>/
      config.json              what to train, and the newest submission; written by the submitter
      status.json              sft.py's own, a few seconds old
      checkpoints/             the newest one, to go on from on another machine
      model-<SHA-256>/         the adapter
      outcome.json             how it ended; written last, so what it names is whole

It imports nothing of gitune, because it is sent to other machines; gitune imports it for `Store`. A submission that is
no longer the newest, or was cancelled, trains nothing and writes nothing.

Exit codes: 0 trained, 1 the input is wrong, 3 crashed, 128 + signal killed; without an outcome in the last case.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MIRROR_SECONDS = 2.0
"""Between two looks at what the training has written: how old status.json may be."""
_CANCELLED = 128 + signal.SIGTERM


@dataclass(frozen=True, slots=True)
class Store:
    """A folder in any file system that fsspec opens. Raises what the file system raises."""

    url: str
    filesystem: Any
    root: str

    @classmethod
    def open(cls, url: str) -> Store:
        """Connects to nobody yet, with most file systems. Raises ImportError when one needs a package more."""
        from fsspec.core import url_to_fs

        filesystem, root = url_to_fs(url, use_listings_cache=False)
        return cls(url.rstrip("/"), filesystem, root.rstrip("/"))

    def read(self, path: str) -> bytes | None:
        """The file's content; None when it is missing."""
        try:
            return bytes(self.filesystem.cat_file(f"{self.root}/{path}"))
        except FileNotFoundError:
            return None

    def read_json(self, path: str) -> dict[str, Any] | None:
        """The file's object; None when it is missing or something else."""
        try:
            value = json.loads(self.read(path) or b"null")
        except ValueError:
            return None
        return value if isinstance(value, dict) else None

    def write(self, path: str, content: bytes) -> None:
        """Replace the file: a reader sees the old content or the new, never a part."""
        whole = f"{self.root}/{path}"
        if "file" not in _protocols(self.filesystem):  # object stores show an object when it is whole
            self.filesystem.pipe_file(whole, content)
            return
        part = f"{whole}.{secrets.token_hex(4)}.part"
        self.filesystem.makedirs(whole.rpartition("/")[0], exist_ok=True)
        self.filesystem.pipe_file(part, content)
        self.filesystem.mv(part, whole)

    def write_json(self, path: str, value: Mapping[str, Any]) -> None:
        self.write(path, (json.dumps(value, indent=2) + "\n").encode())

    def add(self, content: bytes) -> str:
        """Put a file there by its content, unless it is there. Returns its path."""
        path = f"data/{hashlib.sha256(content).hexdigest()}"
        if not self.filesystem.exists(f"{self.root}/{path}"):
            self.write(path, content)
        return path

    def fetch(self, path: str, digest: str, target: Path) -> None:
        """Download a file whose content is known by its SHA-256. Raises ValueError when it is another, and OSError."""
        target.parent.mkdir(parents=True, exist_ok=True)
        self.filesystem.get_file(f"{self.root}/{path}", str(target))
        if _sha256(target) != digest:
            raise ValueError(f"{self.url}/{path}: its content is not the one with SHA-256 {digest}")

    def names(self, folder: str) -> list[str]:
        """What lies directly in a folder; nothing when there is none."""
        try:
            entries = self.filesystem.ls(f"{self.root}/{folder}", detail=False)
        except FileNotFoundError:
            return []
        return sorted(str(entry).rstrip("/").rpartition("/")[2] for entry in entries)

    def files(self, folder: str) -> list[str]:
        """The paths of all files below a folder, seen from it."""
        start = f"{self.root}/{folder}/"
        return sorted(str(path).removeprefix(start) for path in self.filesystem.find(start))

    def remove(self, path: str) -> None:
        """A file or a whole folder; nothing when it is missing."""
        with contextlib.suppress(FileNotFoundError):
            self.filesystem.rm(f"{self.root}/{path}", recursive=True)


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class Submission:
    """One attempt to train one job."""

    store: Store
    folder: str
    """Of the job in the store."""
    name: str
    """As the cluster calls it."""
    config: Mapping[str, Any]
    work: Path
    """Of this attempt, on this machine."""
    started: float

    def stands(self) -> bool:
        """Whether nobody cancelled it or submitted the job anew."""
        config = self.store.read_json(f"{self.folder}/config.json") or {}
        return config.get("submission") == self.name and not config.get("cancelled")

    def finish(self, status: str, **facts: Any) -> None:
        """The end, whatever it is."""
        now = time.time()
        outcome = {
            "status": status,
            "submission": self.name,
            **{name: self.config[name] for name in ("key", "base_model", "method")},
            "seconds": round(now - self.started, 2),
            "ended_at": now,
            **facts,
        }
        self.store.write_json(f"{self.folder}/outcome.json", outcome)


def run(store_url: str, job: str, name: str) -> int:
    """Train the job unless it is trained. Returns the exit code."""
    started = time.time()
    store, folder = Store.open(store_url), f"jobs/{job}"
    if (store.read_json(f"{folder}/outcome.json") or {}).get("status") == "succeeded":
        return 0
    config = store.read_json(f"{folder}/config.json")
    if config is None:
        print(f"error: {store_url}/{folder}/config.json cannot be read from here", file=sys.stderr)
        return 3
    with tempfile.TemporaryDirectory(prefix="gitune-") as work:
        submission = Submission(store, folder, name, config, Path(work), started)
        if not submission.stands():
            print("cancelled, or submitted anew", file=sys.stderr)
            return _CANCELLED
        _fetch_inputs(submission)
        code = _train(submission)
        return _finish(submission, code)


def _fetch_inputs(submission: Submission) -> None:
    for name, path in submission.config["files"].items():
        submission.store.fetch(path, path.rpartition("/")[2], submission.work / name)
    # no more than decides the weights: sft.py goes on only from checkpoints of the very same config
    config = {name: submission.config[name] for name in ("key", "method", "hyperparameters", "fingerprint")}
    config["base_model"] = submission.config["load"]
    (submission.work / "config.json").write_text(json.dumps(config), encoding="utf-8")
    checkpoints = f"{submission.folder}/checkpoints"
    for name in submission.store.files(checkpoints):
        target = submission.work / "output" / "checkpoints" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        submission.store.filesystem.get_file(f"{submission.store.root}/{checkpoints}/{name}", str(target))


def _train(submission: Submission) -> int:
    """sft.py to its end. Returns its exit code, negative for the signal that killed it."""
    work = submission.work
    command = [sys.executable, "-u", str(work / "sft.py"), "--config", str(work / "config.json")]
    command += ["--train", str(work / "train.jsonl"), "--output", str(work / "output")]
    if (work / "validation.jsonl").stat().st_size:
        command += ["--validation", str(work / "validation.jsonl")]
    process = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda _number, _frame: process.terminate())
    mirror, pause = _Mirror(submission), 0.5
    while True:
        try:
            return process.wait(timeout=pause)
        except subprocess.TimeoutExpired:
            mirror.look()
            pause = min(2 * pause, MIRROR_SECONDS)


class _Mirror:
    """Keeps the store's status.json and checkpoints/ up to date with the training's."""

    def __init__(self, submission: Submission) -> None:
        self._submission = submission
        self._output = submission.work / "output"
        self._kept = ""

    def look(self) -> None:
        try:
            self._status()
            self._checkpoint()
        except Exception as error:  # noqa: BLE001 - whatever a file system raises, the training goes on
            print(f"warning: the store was not updated: {type(error).__name__}: {error}", file=sys.stderr)

    def _status(self) -> None:
        status = _read_json(self._output / "status.json")
        submission = self._submission
        shown = {**status, "submission": submission.name, "began": submission.started}
        submission.store.write_json(f"{submission.folder}/status.json", shown)

    def _checkpoint(self) -> None:
        states = self._output.glob("checkpoints/checkpoint-*/trainer_state.json")  # written last: the others are whole
        newest = max(states, key=lambda path: int(path.parent.name.partition("-")[2]), default=None)
        if newest is None or newest.parent.name == self._kept:
            return
        store, folder = self._submission.store, f"{self._submission.folder}/checkpoints"
        store.write(f"{folder}/identity", (self._output / "checkpoints" / "identity").read_bytes())
        for file in sorted(newest.parent.iterdir(), key=lambda path: path == newest):
            store.write(f"{folder}/{newest.parent.name}/{file.name}", file.read_bytes())
        for name in store.names(folder):
            if name not in ("identity", newest.parent.name):
                store.remove(f"{folder}/{name}")
        self._kept = newest.parent.name


def _finish(submission: Submission, code: int) -> int:
    if code < 0:
        return 128 - code
    if not submission.stands():
        return _CANCELLED
    output = submission.work / "output"
    if code == 0:
        folder, files = _put_model(submission, output / "model")
        facts = _read_json(output / "model" / "training.json")
        submission.finish("succeeded", model=folder, files=files, training=facts)
        submission.store.remove(f"{submission.folder}/checkpoints")
        return 0
    status = _read_json(output / "status.json")
    if status.get("status") == "failed":
        submission.finish("failed", error=status.get("error"))
    return code


def _put_model(submission: Submission, model: Path) -> tuple[str, dict[str, str]]:
    """The adapter in a folder named by its content: another attempt's files never mix with these."""
    files = {path.name: _sha256(path) for path in sorted(model.iterdir())}
    folder = f"{submission.folder}/model-{hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]}"
    for name in files:
        submission.store.write(f"{folder}/{name}", (model / name).read_bytes())
    return folder, files


def _read_json(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads(path.read_text(encoding="utf-8")))
    return {}


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(run(*sys.argv[2:]))
