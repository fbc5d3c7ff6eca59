"""One step towards a trained model: adopt, submit, fail over, or stay queued. Never waits, and may be repeated.

This is the logic of the FineTunedModel resource without Pulumi; resources/model.py only translates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from gitune.errors import ProviderError, QuotaExceeded, explain
from gitune.providers.base import Job, Provider, TrainingKey, TrainingRequest
from gitune.scheduler import after_error

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

    @classmethod
    def from_outputs(cls, outputs: Mapping[str, Any]) -> ModelState:
        known = {item.name: outputs[item.name] for item in fields(cls) if outputs.get(item.name) is not None}
        return cls(**{"status": "lost", **known})

    def outputs(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """The candidate that is being tried, and why those before it were not taken."""

    request: TrainingRequest
    passed_over: tuple[str, ...] = field(default=())

    def state(self, status: Status, job: Job | None = None, reason: str = "") -> ModelState:
        ended = job is not None and not job.live
        return ModelState(
            status=status,
            key=self.request.key,
            provider=self.request.provider,
            base_model=self.request.base_model,
            job_id=job.job_id if job else "",
            model_id=(job.model_id or "") if job else "",
            reason="; ".join([*self.passed_over, *([reason] if reason else [])]),
            # only of an ended job: the state should not change because time passes
            seconds=job.seconds if job and ended else None,
            cost_usd=job.cost_usd if job and ended else None,
        )


def advance(
    requests: Sequence[TrainingRequest], dataset: Path, open_provider: OpenProvider, *, retry_failed: bool = False
) -> ModelState:
    """Take the first candidate that has, or gets, a job. A failed job is started anew only with `retry_failed`."""
    passed_over: tuple[str, ...] = ()
    for request in requests:
        attempt = _Attempt(request, passed_over)
        try:
            job = _adopt_or_submit(request, dataset, open_provider(request.provider), retry_failed)
            if job.error is not None and not job.live:
                raise job.error
        except ProviderError as error:
            reason = f"{request.provider}: {explain(error)}"
            decision = after_error(error)
            if decision == "queue":
                return attempt.state("queued", reason=reason)
            if decision == "stop":
                return attempt.state("failed", reason=reason)
            passed_over = (*passed_over, reason)
            continue
        return attempt.state(_status(job), job)
    last = _Attempt(requests[-1], passed_over)
    return last.state("failed", reason="no candidate is left")


def observe(recorded: ModelState, open_provider: OpenProvider) -> ModelState:
    """What the provider says now of the recorded job; queued and failed records stand until the next step."""
    if recorded.status in ("queued", "failed"):
        return recorded
    try:
        job = open_provider(recorded.provider).find_job(TrainingKey(recorded.key))
    except ProviderError:
        return recorded  # no answer, a retired API, a missing key: none says what became of the job
    if job is None:
        return ModelState(**{**recorded.outputs(), "status": "lost", "reason": f"{recorded.provider}: the job is gone"})
    reason = recorded.reason if job.error is None else f"{recorded.provider}: {explain(job.error)}"
    return ModelState(
        status=_status(job),
        key=recorded.key,
        provider=recorded.provider,
        base_model=recorded.base_model,
        job_id=job.job_id,
        model_id=job.model_id or "",
        reason=reason,
        seconds=None if job.live else job.seconds,
        cost_usd=None if job.live else job.cost_usd,
    )


def _adopt_or_submit(request: TrainingRequest, dataset: Path, provider: Provider, retry_failed: bool) -> Job:
    job = provider.find_job(request.key)
    if job is None or job.status in ("lost", "cancelled") or _met_a_full_house(job):
        return provider.submit_job(request, dataset)
    if retry_failed and job.status == "failed":
        return provider.submit_job(request, dataset)
    return job


def _met_a_full_house(job: Job) -> bool:
    """Accepted, then failed because others ran: nothing was trained, and there may be room by now."""
    return job.status == "failed" and isinstance(job.error, QuotaExceeded) and job.error.kind == "concurrent"


def _status(job: Job) -> Status:
    match job.status:
        case "succeeded":
            return "succeeded"
        case "failed":
            return "failed"
        case "lost" | "cancelled":
            return "lost"
    return "running"
