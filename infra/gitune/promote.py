"""From a trained model to a lock: benchmark, gate, write."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gitune.benchmark.run import Evidence, OnProgress, gather_evidence
from gitune.benchmark.scores import Unanswered
from gitune.forecast import recorded_estimate
from gitune.history import taken_versions
from gitune.lock import Lock, next_version, read_lock, write_lock
from gitune.project import Project
from gitune.providers.base import Estimate, Job, TrainingRequest
from gitune.spec import AgentSpec


@dataclass(frozen=True, slots=True)
class Promotion:
    """What the gate saw and said of a model, and whether it wrote a lock."""

    evidence: Evidence
    written: bool


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A finished training, as the engine recorded it."""

    request: TrainingRequest
    job: Job
    examples: int
    """Training examples, without those held back."""
    reason: str = ""
    """Why earlier candidates did not train it."""


def promote(spec: AgentSpec, project: Project, model: TrainedModel, on_progress: OnProgress) -> Promotion:
    """Benchmark the model; write its lock when the verdict is a pass and the lock does not say all this already."""
    path = project.lock_file(spec.name)
    previous = read_lock(path)
    model_id = model.job.model_id or ""
    evidence = gather_evidence(spec, project, model.request.provider, model_id, previous, on_progress)
    if evidence.verdict.outcome != "pass" or (previous and _says(previous, spec, model, evidence)):
        return Promotion(evidence, written=False)
    lock = _lock(spec, model, evidence, recorded_estimate(model.request, project))
    lock = replace(lock, version=next_version(previous, lock, taken_versions(project, spec.name)))
    write_lock(path, lock)
    return Promotion(evidence, written=True)


def _logs(evidence: Evidence) -> dict[str, str]:
    """Where inspect wrote down every answer, below .gitune on the machine that asked."""
    found = {"challenger": evidence.challenger.log, "latency": evidence.challenger.latency_log}
    if not isinstance(evidence.base, Unanswered):
        found["base"] = evidence.base.log
    return found


def _says(lock: Lock, spec: AgentSpec, model: TrainedModel, evidence: Evidence) -> bool:
    """Whether the lock already holds this model, judged on these cases by this scorer and gate."""
    return (
        lock.model_id == model.job.model_id
        and lock.benchmark["fingerprint"] == evidence.fingerprint
        and lock.benchmark.get("scorer") == spec.benchmark.scorer.kind
        and lock.benchmark.get("runs") == spec.benchmark.runs
        and lock.verdict["gate"] == spec.gate.model_dump()
    )


def _lock(spec: AgentSpec, model: TrainedModel, evidence: Evidence, estimate: Estimate) -> Lock:
    return Lock(
        agent=spec.name,
        version="",
        provider=model.request.provider,
        model_id=model.job.model_id or "",
        base_model=model.request.base_model,
        method=model.request.method,
        hyperparameters=dict(model.request.hyperparameters),
        dataset={"fingerprint": model.request.fingerprint, "examples": model.examples},
        job={
            "id": model.job.job_id,
            "key": str(model.job.key),
            "seconds": None if model.job.seconds is None else round(model.job.seconds, 1),
            "cost_usd": model.job.cost_usd,
            "estimated_usd": None if estimate.usd is None else [round(usd, 2) for usd in estimate.usd],
            "passed_over": model.reason or None,
        },
        benchmark={
            "cases": evidence.cases,
            "fingerprint": evidence.fingerprint,
            "accuracy": round(evidence.challenger.accuracy, 4),
            "base_accuracy": None if isinstance(evidence.base, Unanswered) else round(evidence.base.accuracy, 4),
            "latency_seconds": round(evidence.challenger.latency, 3),
            "scorer": spec.benchmark.scorer.kind,
            "runs": spec.benchmark.runs,
            "logs": _logs(evidence),
        },
        verdict={
            "outcome": evidence.verdict.outcome,
            "reasons": list(evidence.verdict.reasons),
            "gate": spec.gate.model_dump(),
        },
    )
