"""Training on this machine: no account, no key, no network.

A job is a detached process in a folder of its own, named by the training key. The process inherits two flock(2) locks
from whoever started it: the job's own, which tells everybody that it is alive, and one of the `concurrency` slots, by
which the kernel enforces how many run at once. Both vanish with the process, however it dies, so there is no process
ID to be mistaken about and nothing to clean up after a kill -9.

    .gitune/jobs/<first 16 digits of the key>/
      config.json                        what to train; written last, so a folder that has it is complete
      train.jsonl validation.jsonl       the dataset
      lock pid log.txt
      status.json events.jsonl checkpoints/ model/      written by training/sft.py
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any, ClassVar

from gitune.dataset.manifest import TRAIN_FILE, VALIDATION_FILE
from gitune.errors import NotFound, Problem, ProviderError, QuotaExceeded, Rejected, Unavailable
from gitune.files import is_locked, read_json, try_lock, write_atomic
from gitune.prices import Range, Tokens
from gitune.providers.base import (
    Estimate,
    Job,
    JobStatus,
    ListedJob,
    LocalTarget,
    Model,
    TrainingDefaults,
    TrainingKey,
    TrainingRequest,
    short,
)
from gitune.providers.lines import whole_lines
from gitune.providers.settings import ProviderSettings
from gitune.training.base_model import DEFAULT_BASE_MODEL
from gitune.training.sft import check_hyperparameters, default_hyperparameters

_CANCEL_SECONDS = 5.0
_MOST_KILLS = 5
_PREFIX = "local:"
_ENDS: Mapping[str, JobStatus] = {"failed": "failed", "cancelled": "cancelled"}


class LocalProvider:
    """Jobs below .gitune/jobs of the repository, at most `concurrency` (default 1) at once."""

    name: ClassVar[str] = "local"
    defaults: ClassVar[TrainingDefaults] = TrainingDefaults(DEFAULT_BASE_MODEL, default_hyperparameters())
    settings: ClassVar[type[ProviderSettings]] = ProviderSettings

    def __init__(self, settings: ProviderSettings, root: Path) -> None:
        self._folder = root / ".gitune" / "jobs"
        self._concurrency = settings.concurrency or 1

    def check(self, request: TrainingRequest) -> list[Problem]:
        wrong = check_hyperparameters(request.hyperparameters)
        return [Problem(name, 0, message) for name, message in wrong.items()]

    def estimate(self, request: TrainingRequest, tokens: Tokens | None = None) -> Estimate:
        """Costs nothing; the minutes are those per token of the latest job of this base model here, if there is one."""
        return Estimate(usd=(0.0, 0.0, 0.0), minutes=self._minutes(request, tokens))

    def find_job(self, key: TrainingKey) -> Job | None:
        folder = self._job_folder(key)
        config = read_json(folder / "config.json")
        if config is None or config["key"] != key:
            return None
        return _read_job(folder, key)

    def submit_job(self, request: TrainingRequest, dataset: Path) -> Job:
        key = request.key
        folder = self._job_folder(key)
        found = self.find_job(key)
        if found is not None and (found.live or found.status == "succeeded"):
            return found
        with contextlib.ExitStack() as held:
            slot = held.enter_context(self._free_slot())
            lock = try_lock(folder / "lock", wait_seconds=0.5)
            if lock is None:  # someone else submitted it in this very moment
                return self._must_find(key)
            held.enter_context(lock)
            found = self.find_job(key)  # the lock is ours, so what has no end was killed
            if found is not None and found.status == "succeeded":
                return found
            if found is not None and found.error is None and found.status != "cancelled" and _gets_nowhere(folder):
                return self._must_find(key)
            _write_inputs(folder, request, dataset)
            (folder / "status.json").unlink(missing_ok=True)
            _start(folder, lock, slot)
        return Job(key, short(key), "running", detail="starting")

    def list_jobs(self, keys: Collection[TrainingKey]) -> Mapping[TrainingKey, Job]:
        return {key: job for key in keys if (job := self.find_job(key)) is not None}

    def all_jobs(self) -> Sequence[ListedJob]:
        configs = ((path.parent, read_json(path)) for path in sorted(self._folder.glob("*/config.json")))
        jobs = [_read_job(folder, TrainingKey(config["key"])) for folder, config in configs if config is not None]
        return [ListedJob(job.job_id, job.status, short(job.key)) for job in jobs]

    def job_log(self, job_id: str) -> Sequence[str]:
        """log.txt of the job's folder, over all processes that the job took."""
        folder = self._folder / job_id
        if not (folder / "config.json").is_file():
            raise NotFound(f"no local job '{job_id}'")
        ended = not is_locked(folder / "lock")
        log = folder / "log.txt"
        said = log.read_bytes() if log.is_file() else b""
        return whole_lines(said.decode("utf-8", "replace"), ended=ended)

    def cancel_job(self, job_id: str) -> None:
        folder = self._folder / job_id
        if not (folder / "config.json").is_file():
            raise NotFound(f"no local job '{job_id}'")
        pid = read_json(folder / "pid")
        deadline = time.monotonic() + _CANCEL_SECONDS
        signals = iter([signal.SIGTERM])
        while pid is not None and is_locked(folder / "lock"):
            number = signal.SIGKILL if time.monotonic() > deadline else next(signals, None)
            if number is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            time.sleep(0.05)
        if _read_job(folder, TrainingKey(read_json(folder / "config.json")["key"])).status == "lost":
            write_atomic(folder / "status.json", json.dumps({"status": "cancelled"}))

    def get_model(self, model_id: str) -> Model | None:
        folder = self._model_folder(model_id)
        facts = read_json(folder / "training.json")
        if facts is None:
            return None
        config = read_json(folder.parent / "config.json") or {}
        archived = (folder.parent / "archived").exists()
        return Model(model_id, config.get("base_model", facts.get("base_model", "")), archived, facts)

    def archive_model(self, model_id: str) -> None:
        if self.get_model(model_id) is None:
            raise NotFound(f"no local model '{model_id}'")
        (self._model_folder(model_id).parent / "archived").touch()

    def chat_target(self, model_id: str) -> LocalTarget:
        model = self.get_model(model_id)
        if model is None:
            raise NotFound(f"no local model '{model_id}'", hint="run: gitune up")
        return LocalTarget(model.base_model, self._model_folder(model_id))

    def _minutes(self, request: TrainingRequest, tokens: Tokens | None) -> Range | None:
        rate = self._tokens_per_second(request.base_model)
        if rate is None or tokens is None:
            return None
        minutes = tokens.count * float(request.hyperparameters["epochs"]) / rate / 60
        return 0.8 * minutes, minutes + 0.1, 2.0 * minutes + 0.5  # alone on the machine; loading; beside other work

    def _tokens_per_second(self, base_model: str) -> float | None:
        statuses = sorted(self._folder.glob("*/status.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in statuses:
            status, config = read_json(path), read_json(path.parent / "config.json")
            if status and config and config["base_model"] == base_model and status.get("status") == "succeeded":
                return float(status["tokens_per_second"]) or None
        return None

    def _job_folder(self, key: TrainingKey) -> Path:
        return self._folder / short(key)

    def _model_folder(self, model_id: str) -> Path:
        return self._folder / model_id.removeprefix(_PREFIX) / "model"

    def _free_slot(self) -> IO[str]:
        for number in range(self._concurrency):
            slot = try_lock(self._folder / f"slot-{number}.lock")
            if slot is not None:
                return slot
        raise QuotaExceeded(f"{self._concurrency} local job(s) at once, and that many are running", kind="concurrent")

    def _must_find(self, key: TrainingKey) -> Job:
        job = self.find_job(key)
        if job is None:
            raise Unavailable("another process is submitting this job", retry_after=1.0)
        return job


def _gets_nowhere(folder: Path) -> bool:
    """Whether this job was killed again and again at the same step. If so, it is recorded as failed.

    Whoever kills it (mostly the kernel, for memory) would do so for ever.
    """
    step = (read_json(folder / "status.json") or {}).get("step", 0)
    before = read_json(folder / "kills.json") or {}
    kills = before.get("kills", 0) + 1 if before.get("step") == step else 1
    write_atomic(folder / "kills.json", json.dumps({"step": step, "kills": kills}))
    if kills < _MOST_KILLS:
        return False
    (folder / "kills.json").unlink()
    message = f"killed {kills} times at step {step}, perhaps for want of memory"
    error = {"kind": "crashed", "message": message}
    write_atomic(folder / "status.json", json.dumps({"status": "failed", "step": step, "error": error}))
    return True


def _write_inputs(folder: Path, request: TrainingRequest, dataset: Path) -> None:
    for name in (TRAIN_FILE, VALIDATION_FILE):
        shutil.copyfile(dataset / name, folder / name)
    config = {
        "key": request.key,
        "base_model": request.base_model,
        "method": request.method,
        "hyperparameters": dict(request.hyperparameters),
        "fingerprint": request.fingerprint,
    }
    write_atomic(folder / "config.json", json.dumps(config, indent=2) + "\n")


def _start(folder: Path, *locks: IO[str]) -> None:
    """The training process, in a session of its own so that no signal to its starter reaches it."""
    command = [sys.executable, "-u", "-m", "gitune.training.run", str(folder)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PULUMI_")}
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[lock.fileno() for lock in locks],
            cwd=folder,
            env=environment,
        )
    write_atomic(folder / "pid", str(process.pid))
    process.returncode = 0  # never waited for: without this, Popen warns that we leave it running, which is the point


def _read_job(folder: Path, key: TrainingKey) -> Job:
    alive = is_locked(folder / "lock")  # asked before status.json is read: a job that ends in between has written it
    status: dict[str, Any] = read_json(folder / "status.json") or {}
    facts: dict[str, Any] = {
        "progress": status.get("progress"),
        "eta_seconds": status.get("eta_seconds"),
        "seconds": _seconds(folder, status.get("finished_at")),
        "detail": status.get("stage") or "starting",
        "cost_usd": 0.0,
    }
    job_id = short(key)
    if status.get("status") == "succeeded" and (folder / "model").is_dir():
        return Job(key, job_id, "succeeded", model_id=f"{_PREFIX}{job_id}", **{**facts, "detail": "finished"})
    if status.get("status") in _ENDS:
        return Job(key, job_id, _ENDS[status["status"]], error=_error(status, folder), **facts)
    if alive:
        return Job(key, job_id, "running", **facts)
    return Job(key, job_id, "lost", **{**facts, "detail": "killed before it ended"})


def _error(status: Mapping[str, Any], folder: Path) -> ProviderError | None:
    error = status.get("error") or {}
    if not error:
        return None
    log = f"read {folder / 'log.txt'}"
    if error.get("kind") == "rejected":
        return Rejected(error["message"], hint="mend agent.yaml or the data")
    return ProviderError(error["message"], hint=log)


def _seconds(folder: Path, ended_at: str | None) -> float | None:
    """Seconds that the job ran, over all processes that it took. None before the first event.

    `ended_at` is the end that status.json tells; the event of it is written a moment later.
    """
    end = datetime.fromisoformat(ended_at) if ended_at else None
    total, first, last = 0.0, None, None
    for event in _events(folder):
        at = datetime.fromisoformat(event["at"])
        at = min(at, end) if end else at
        if event["event"] in ("started", "resumed") and first is not None and last is not None:
            total += (last - first).total_seconds()
            first = None
        first, last = first or at, at
    last = end or last
    return None if first is None or last is None else total + (last - first).total_seconds()


def _events(folder: Path) -> Iterator[dict[str, Any]]:
    path = folder / "events.jsonl"
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError):  # a line cut short by a kill -9
            yield json.loads(line)
