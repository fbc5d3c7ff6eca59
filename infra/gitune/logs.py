"""What an agent's current or last job says, as far as its provider tells."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gitune.backend import recorded_deployment
from gitune.errors import NotFound, Unavailable, UserError, explain
from gitune.hints import did_you_mean, one_of
from gitune.lock import read_lock
from gitune.project import Project
from gitune.providers.base import Job, TellsLogs, TrainingKey
from gitune.reconcile import ModelState
from gitune.root import agent_names, stack_names
from gitune.scheduler import backoff_seconds, next_poll_seconds
from gitune.state import resource_outputs

_LONGEST_PAUSE_SECONDS = 10.0
_PATIENCE = 5
"""Polls in a row without an answer, after which following ends."""


@dataclass(frozen=True, slots=True)
class AgentJob:
    """A job, and what it was for."""

    agent: str
    provider: str
    job_id: str
    key: str
    note: str = ""
    """Why it is an earlier job, if it is."""


def find_agent_job(project: Project, agent: str) -> AgentJob:
    """The job that the stack recorded last for an agent, else that of its lock. Raises UserError."""
    recorded = resource_outputs(recorded_deployment(project), "FineTunedModel")
    lock = read_lock(project.lock_file(agent))
    if agent not in recorded and lock is None and agent not in (names := agent_names(project.root)):
        raise UserError(f"no agent '{agent}'", hint=did_you_mean(agent, names) or one_of(names))
    state = ModelState.from_outputs(recorded.get(agent, {}))
    if state.job_id:
        return AgentJob(agent, state.provider, state.job_id, state.key)
    waits = f"{agent} has no job in stack {project.stack.name}"
    if state.reason:
        waits += f": {state.reason}"
    if lock is not None and lock.job.get("id"):
        note = f"{waits}; this is the job of the locked model {lock.version}"
        return AgentJob(agent, lock.provider, str(lock.job["id"]), str(lock.job.get("key") or ""), note)
    others = ", ".join(name for name in stack_names(project.root) if name != project.stack.name)
    raise UserError(waits, hint=f"run: gitune up -s {project.stack.name}; other stacks, for -s: {others or 'none'}")


def read_log(project: Project, job: AgentJob) -> Iterator[str]:
    """What it has said so far. Raises UserError or ProviderError."""
    yield from _telling(project, job).job_log(job.job_id)


def follow_log(project: Project, job: AgentJob, on_trouble: Callable[[str], None]) -> Iterator[str]:
    """What it has said and goes on to say, until it ends. Raises UserError or ProviderError.

    A provider that does not answer for a moment is asked again; `on_trouble` is told.
    """
    said = polls = failures = 0
    while True:
        try:
            ended = not _is_live(project, job)  # asked before the log is read, so that its last lines are in it
            lines = _telling(project, job).job_log(job.job_id)
        except Unavailable as error:
            failures += 1
            if failures > _PATIENCE:
                raise
            on_trouble(explain(error))
            time.sleep(error.retry_after or backoff_seconds(failures, job.job_id, first=1.0, longest=30.0))
            continue
        yield from lines[said:]
        if ended:
            return
        polls = 0 if len(lines) > said else polls + 1
        said, failures = len(lines), 0
        time.sleep(next_poll_seconds(polls, longest=_LONGEST_PAUSE_SECONDS))


def how_it_ended(project: Project, job: AgentJob) -> Job | None:
    """The job as its provider has it now; None where that knows another one by now, or none. Raises ProviderError."""
    found = project.provider(job.provider).find_job(TrainingKey(job.key)) if job.key else None
    return found if found is not None and found.job_id == job.job_id else None


def _is_live(project: Project, job: AgentJob) -> bool:
    found = how_it_ended(project, job)
    return found is not None and found.live


def _telling(project: Project, job: AgentJob) -> TellsLogs:
    provider = project.provider(job.provider)
    if not isinstance(provider, TellsLogs):
        raise NotFound(f"{job.provider} does not tell what its jobs say", hint=f"ask it for job {job.job_id}")
    return provider
