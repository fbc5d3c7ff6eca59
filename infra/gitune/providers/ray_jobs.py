"""What Ray and the store say of one training, as a Job. Pure: everything has been read before."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gitune.errors import ProviderError, QuotaExceeded, Rejected
from gitune.providers.base import Job, JobStatus, ListedJob, TrainingKey, short
from gitune.providers.ray_client import last_line
from gitune.providers.wire import quota_kind

Info = Mapping[str, Any]
"""One submission, as Ray's REST API tells of it (ray.dashboard.modules.job.pydantic_models.JobDetails)."""

PREFIX = "ray:"
"""Of model IDs: `ray:<first 16 digits of the key>`."""
KEY_NAME = "gitune_key"
"""Of the whole training key in a submission's metadata."""
JOB_ID = re.compile(r"gitune-([0-9a-f]{16})(?:-(\d+))?")
ENDED = frozenset({"STOPPED", "SUCCEEDED", "FAILED"})
_WORDS: Mapping[str, JobStatus] = {"PENDING": "queued", "RUNNING": "running", "STOPPED": "cancelled"}
_WAITING = {"PENDING": "waiting for the cluster", "RUNNING": "starting"}
_KILLED = {"JOB_SUPERVISOR_ACTOR_DIED", "JOB_SUPERVISOR_ACTOR_START_FAILURE", "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE"}
_MOST_KILLS = 5


@dataclass(frozen=True, slots=True)
class Record:
    """What the store holds of one job; see training/store_job.py. Empty: there is no such file."""

    outcome: Mapping[str, Any]
    config: Mapping[str, Any]
    status: Mapping[str, Any]


def job_id_of(key: TrainingKey, attempt: int) -> str:
    """The submission ID; attempts count from 1. After a restart of the cluster's head they begin anew."""
    return f"gitune-{short(key)}" + (f"-{attempt}" if attempt > 1 else "")


def attempts_by_name(infos: Sequence[Info]) -> dict[str, list[Info]]:
    """gitune's submissions by the first digits of their keys, oldest first."""
    found: dict[str, list[tuple[int, Info]]] = {}
    for info in infos:
        if match := JOB_ID.fullmatch(info.get("submission_id") or ""):
            found.setdefault(match[1], []).append((int(match[2] or 1), info))
    return {name: [info for _, info in sorted(group, key=lambda item: item[0])] for name, group in found.items()}


def read_job(
    key: TrainingKey, attempts: Sequence[Info], record: Record, *, now: float, usd_per_hour: float | None
) -> Job | None:
    """The newest submission's job; None when neither side knows one.

    The record must have been read after the attempts: of what Ray calls ended, the outcome is then in the store.
    """
    outcome = record.outcome if record.outcome.get("key") == key else {}
    own = [info for info in attempts if (info.get("metadata") or {}).get(KEY_NAME) == key]
    if outcome.get("status") == "succeeded" or (outcome and not own):
        return job_of_outcome(key, outcome, usd_per_hour)
    if not own:
        return None
    info = own[-1]
    job_id = str(info["submission_id"])
    facts = _facts(info, record.status, now, usd_per_hour)
    if record.config.get("submission") == job_id and record.config.get("cancelled"):
        return Job(key, job_id, "cancelled", **{**facts, "detail": "cancelled"})
    if info["status"] not in ("SUCCEEDED", "FAILED"):
        return Job(key, job_id, _WORDS.get(info["status"], "unknown"), **facts)
    # IDs begin anew with the cluster's head: an outcome that is older than the submission is a namesake's
    if outcome.get("submission") == job_id and outcome["ended_at"] * 1000 >= info["start_time"]:
        return job_of_outcome(key, outcome, usd_per_hour)
    status, error = _failure(info, kills=sum(map(_was_killed, own)))
    return Job(key, job_id, status, error=error, **facts)


def job_of_outcome(key: TrainingKey, outcome: Mapping[str, Any], usd_per_hour: float | None) -> Job:
    """The job that ended so; the cluster need not know it any more."""
    job_id, seconds = outcome["submission"], outcome["seconds"]
    cost = _cost(seconds, usd_per_hour)
    if outcome["status"] == "succeeded":
        model_id = PREFIX + short(key)
        return Job(key, job_id, "succeeded", model_id, seconds=seconds, cost_usd=cost, detail="finished")
    return Job(key, job_id, "failed", error=_error(outcome), seconds=seconds, cost_usd=cost)


def listed_job(info: Info) -> ListedJob:
    """One submission without what the store says of it: `SUCCEEDED` is what Ray calls it."""
    words: Mapping[str, JobStatus] = {**_WORDS, "SUCCEEDED": "succeeded", "FAILED": "failed"}
    job_id = info.get("submission_id") or info.get("job_id") or ""
    name = JOB_ID.fullmatch(job_id)
    return ListedJob(job_id, words.get(info["status"], "unknown"), name[1] if name else None)


def _facts(info: Info, status: Mapping[str, Any], now: float, usd_per_hour: float | None) -> dict[str, Any]:
    told = status if status.get("submission") == info["submission_id"] else {}
    began, ended = told.get("began"), info.get("end_time")  # Ray's start_time is that of the submission
    seconds = None if began is None else (ended / 1000 if ended else now) - began
    return {
        "progress": told.get("progress"),
        "eta_seconds": told.get("eta_seconds"),
        "seconds": seconds,
        "cost_usd": _cost(seconds, usd_per_hour) if ended else None,
        "detail": told.get("stage") or _WAITING.get(info["status"], ""),
    }


def _cost(seconds: float | None, usd_per_hour: float | None) -> float | None:
    return None if usd_per_hour is None or seconds is None else round(seconds / 3600 * usd_per_hour, 6)


def _error(outcome: Mapping[str, Any]) -> ProviderError:
    error = outcome.get("error") or {}
    message = last_line(str(error.get("message", ""))) or "the training failed without a reason"
    if error.get("kind") == "rejected":
        return Rejected(message, hint="mend agent.yaml or the data")
    if kind := quota_kind(message):
        return QuotaExceeded(message, kind=kind)
    return ProviderError(message, hint=f"run: ray job logs {outcome['submission']}")


def _was_killed(info: Info) -> bool:
    """By a signal, or with its node."""
    return info.get("error_type") in _KILLED or not 0 <= (info.get("driver_exit_code") or 0) <= 128


def _failure(info: Info, kills: int) -> tuple[JobStatus, ProviderError | None]:
    """What an end without an outcome means."""
    message = last_line(info.get("message") or "") or "no reason given"
    hint = f"run: ray job logs {info['submission_id']}"
    if info.get("error_type") == "JOB_SUPERVISOR_ACTOR_START_TIMEOUT":
        hint = "set fewer cpus or gpus, or RAY_JOB_START_TIMEOUT_SECONDS on the cluster's head"
        return "failed", QuotaExceeded("the cluster had no room in time", kind="concurrent", hint=hint)
    if _was_killed(info):
        if kills < _MOST_KILLS:
            return "lost", None
        return "failed", ProviderError(f"killed {kills} times, perhaps for want of memory: {message}", hint=hint)
    if info.get("driver_exit_code") in (126, 127):
        hint = "is the cluster on this machine? If not, set store and python in gitune:providers: ray:"
    elif info["status"] == "SUCCEEDED":
        message = "it ended, but its outcome is not in the store"
    return "failed", ProviderError(message, hint=hint)
