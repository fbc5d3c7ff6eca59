"""One agent's step towards a trained model: what is recorded next, and the one call that may cost money. Never waits.

This is the logic of the FineTunedModel resource without Pulumi; resources/model.py only translates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from gitune.errors import ProviderError, Unanswered, explain
from gitune.limits import Declared, Heard, hear
from gitune.providers.base import Job, Provider, TrainingKey, TrainingRequest
from gitune.scheduler import Decision, meaning

Status = Literal["queued", "running", "succeeded", "failed", "lost"]
UNSETTLED: frozenset[str] = frozenset({"queued", "failed", "lost"})
OpenProvider = Callable[[str], Provider]


@dataclass(frozen=True, slots=True)
class ModelState:
    """What is recorded of one agent's model."""

    status: Status
    key: str = ""
    provider: str = ""
    base_model: str = ""
    job_id: str = ""
    model_id: str = ""
    reason: str = ""
    """Why it is queued or failed, and why earlier candidates were passed over."""
    seconds: float | None = None
    cost_usd: float | None = None
    queued_at: float | None = None
    """Seconds since 1970 at which it began to wait for the model it does not have yet."""
    beside: int | None = None
    """Jobs of the account that ran as this one was sent."""
    refused_at: Mapping[str, float] = field(default_factory=dict)
    """Since when candidates that are waited out were refused, by training key."""
    rejected: Mapping[str, str] = field(default_factory=dict)
    """Why candidates were refused for what they are, by training key: they are not sent again unless somebody asks."""
    not_before: float = 0.0
    """Seconds since 1970 until which a submission without an answer may still turn up."""
    heard: tuple[Heard, ...] = ()
    """What this agent's submissions told of limits, for all agents to know."""
    forgiven: tuple[str, ...] = ()
    """IDs of failed jobs, since somebody asked to try anew and until a job takes their place."""

    @classmethod
    def from_outputs(cls, outputs: Mapping[str, Any]) -> ModelState:
        known = {item.name: outputs[item.name] for item in fields(cls) if outputs.get(item.name) is not None}
        if "heard" in known:
            known["heard"] = tuple(Heard.from_dict(item) for item in known["heard"])
        if "forgiven" in known:
            known["forgiven"] = tuple(known["forgiven"])
        if "beside" in known:
            known["beside"] = int(known["beside"])
        return cls(**{"status": "lost", **known})

    def outputs(self) -> dict[str, Any]:
        lists = {"heard": [item.as_dict() for item in self.heard], "forgiven": list(self.forgiven)}
        return {**asdict(self), **lists}


@dataclass(frozen=True, slots=True)
class Target:
    """What one agent's step has to reach."""

    keys: tuple[str, ...]
    """The training keys of the candidates that this was decided for."""
    state: ModelState
    """What is to be recorded; where a candidate is submitted, whatever is not its answer."""
    submit: int | None = None
    """The candidate to submit."""
    declared: Declared = field(default_factory=Declared)
    """Its provider's limits as they were declared."""

    def differs(self, recorded: ModelState) -> bool:
        """Whether the step has anything to do."""
        return self.submit is not None or self.state != recorded

    def as_dict(self) -> dict[str, Any]:
        facts = {"keys": list(self.keys), "state": self.state.outputs(), "submit": self.submit}
        return {**facts, "declared": asdict(self.declared)}

    @classmethod
    def from_dict(cls, written: Mapping[str, Any]) -> Target:
        """The inverse of `as_dict`."""
        state, declared = ModelState.from_outputs(written["state"]), Declared(**written["declared"])
        return cls(tuple(written["keys"]), state, written["submit"], declared)


def target(
    decision: Decision,
    requests: Sequence[TrainingRequest],
    recorded: ModelState,
    declared: Mapping[str, Declared],
    now: float,
) -> Target:
    """What a decision makes of an agent. Pure.

    `recorded` is what is recorded now, with what was heard since; `declared` is by provider.
    """
    keys = tuple(request.key for request in requests)
    request, reason = requests[decision.candidate], "; ".join(decision.reasons)
    if decision.action == "adopt" and decision.job is not None:
        return Target(keys, _of_job(decision.job, request, recorded, reason))
    since = now if recorded.queued_at is None else recorded.queued_at
    plain = ModelState(
        "queued",
        request.key,
        request.provider,
        request.base_model,
        reason=reason,
        queued_at=since,
        refused_at=dict(decision.refused_at),
        rejected={key: why for key, why in recorded.rejected.items() if key in keys},
        not_before=recorded.not_before,
        heard=recorded.heard,
        forgiven=recorded.forgiven,
    )
    if decision.action == "submit":
        rejected = {key: why for key, why in plain.rejected.items() if key != request.key}
        sent = replace(plain, beside=decision.beside, rejected=rejected, not_before=0.0)
        return Target(keys, sent, decision.candidate, declared.get(request.provider, Declared()))
    if decision.action == "stop":
        job_id = decision.job.job_id if decision.job else ""
        return Target(keys, replace(plain, status="failed", job_id=job_id, queued_at=recorded.queued_at))
    return Target(keys, plain)


def submit(wanted: Target, request: TrainingRequest, dataset: Path, open_provider: OpenProvider) -> ModelState:
    """Send the candidate, unless its job is there already. Returns what is to be recorded; raises ProviderError."""
    job = open_provider(request.provider).submit_job(request, dataset)
    if job.error is not None and not job.live:
        raise job.error
    return _of_job(job, request, wanted.state, wanted.state.reason)


def refuse(wanted: Target, request: TrainingRequest, error: ProviderError, now: float, *, taken: int = 0) -> ModelState:
    """What is to be recorded when the candidate was not taken. Pure; the next round decides what follows.

    `taken` are the jobs that its provider took in this pass before: they run beside it, too.
    """
    state = wanted.state
    reason = "; ".join(part for part in (state.reason, f"{request.provider}: {explain(error)}") if part)
    if isinstance(error, Unanswered):
        return replace(state, reason=reason, not_before=now + error.retry_after)
    if meaning(error) == "stop":
        return replace(state, status="failed", reason=reason, rejected={request.key: reason}, queued_at=None)
    heard = hear(error, request.provider, wanted.declared, now, state.heard, beside=(state.beside or 0) + taken)
    return replace(state, reason=reason, heard=heard)


def observe(recorded: ModelState, open_provider: OpenProvider) -> ModelState:
    """What the provider says now of the recorded job; queued and failed records stand until the next step."""
    if recorded.status in ("queued", "failed"):
        return recorded
    try:
        provider = open_provider(recorded.provider)
        job = provider.find_job(TrainingKey(recorded.key))
        if job is None and holds_model(recorded, provider):
            return recorded
    except ProviderError:
        return recorded  # no answer, a retired API, a missing key: none says what became of the job
    if job is None:
        return lost(recorded)
    return seen(recorded, job)


def holds_model(recorded: ModelState, provider: Provider) -> bool:
    """Whether the provider still has a model whose job it no longer lists. Raises ProviderError."""
    return (
        recorded.status == "succeeded" and bool(recorded.model_id) and provider.get_model(recorded.model_id) is not None
    )


def lost(recorded: ModelState) -> ModelState:
    """The record of a job that nobody knows any more."""
    return replace(recorded, status="lost", reason=f"{recorded.provider}: the job is gone")


def seen(recorded: ModelState, job: Job) -> ModelState:
    """The record, as the job is now."""
    reason = recorded.reason if job.error is None else f"{recorded.provider}: {explain(job.error)}"
    return _with_job(recorded, job, reason)


def _of_job(job: Job, request: TrainingRequest, recorded: ModelState, reason: str) -> ModelState:
    same = recorded.key == request.key
    start = replace(
        recorded,
        key=request.key,
        provider=request.provider,
        base_model=request.base_model,
        beside=recorded.beside if same else None,
        rejected={},
        not_before=0.0,
        forgiven=(),
    )
    # why a job is here is told once, when it comes; later nobody knows it any more
    return _with_job(start, job, reason or (recorded.reason if same and recorded.job_id == job.job_id else ""))


def _with_job(state: ModelState, job: Job, reason: str) -> ModelState:
    status = _status(job)
    return replace(
        state,
        status=status,
        job_id=job.job_id,
        model_id=job.model_id or "",
        reason=reason,
        # only of an ended job: the state should not change because time passes
        seconds=None if job.live else job.seconds,
        cost_usd=None if job.live else job.cost_usd,
        queued_at=None if status == "succeeded" else state.queued_at,
        refused_at={} if status == "succeeded" else state.refused_at,  # a job too many may still fail
        beside=None if status == "succeeded" else state.beside,
    )


def _status(job: Job) -> Status:
    match job.status:
        case "succeeded":
            return "succeeded"
        case "failed":
            return "failed"
        case "lost" | "cancelled":
            return "lost"
    return "running"
