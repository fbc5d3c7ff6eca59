"""From a trained model to a lock: benchmark, gate, write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gitune.benchmark.gate import Verdict, judge_together, with_checks
from gitune.benchmark.models import NamedModel
from gitune.benchmark.run import Benchmark, Evidence, OnProgress, gather_evidence, open_benchmark
from gitune.benchmark.safety import SafetyEvidence, count_behaviours
from gitune.benchmark.safety_gate import judge_safety
from gitune.benchmark.scores import Unanswered
from gitune.forecast import recorded_estimate
from gitune.history import taken_versions
from gitune.lock import Lock, next_version, read_lock
from gitune.passport import Baseline
from gitune.project import Project
from gitune.provenance import code_record, write_with_passport
from gitune.providers.base import Estimate, Job, TrainingRequest
from gitune.spec import AgentSpec


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A finished training, as the engine recorded it."""

    request: TrainingRequest
    job: Job
    examples: int
    """Training examples, without those held back."""
    reason: str = ""
    """Why earlier candidates did not train it."""


@dataclass(frozen=True, slots=True)
class Challenger:
    """A trained model before the gate."""

    spec: AgentSpec
    model: TrainedModel
    previous: Lock | None
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Promotion:
    """What the gate saw and said of a model. Its lock is written where the verdict is a pass."""

    evidence: Evidence
    verdict: Verdict

    @property
    def passed(self) -> bool:
        return self.verdict.outcome == "pass"


def examine(spec: AgentSpec, project: Project, model: TrainedModel, on_progress: OnProgress) -> Challenger | None:
    """Benchmark a model. None where its lock rests on the same cases, settings and gate: nobody is asked again.

    Raises InvalidInput, UserError or ProviderError.
    """
    bench = open_benchmark(spec, project, on_progress)
    previous = read_lock(project.lock_file(spec.name))
    if previous is not None and _says(previous, spec, model, bench):
        return None
    provider, model_id = model.request.provider, model.job.model_id or ""
    named = NamedModel(provider, model_id, project.provider(provider).chat_target(model_id), "challenger")
    return Challenger(spec, model, previous, gather_evidence(bench, project, spec.gate, named, previous))


def promote(challengers: Sequence[Challenger], project: Project) -> Mapping[str, Promotion]:
    """Judge them together, by agent; write the passport and the lock of each that passes."""
    if not challengers:
        return {}
    code = code_record(project)
    verdicts = judge_together([challenger.evidence.contest for challenger in challengers])
    promotions = {}
    for challenger, of_cases in zip(challengers, verdicts, strict=True):
        safety = challenger.evidence.safety
        verdict = with_checks(of_cases, judge_safety(safety)) if safety else of_cases
        promotions[challenger.spec.name] = Promotion(challenger.evidence, verdict)
        if verdict.outcome == "pass":
            lock = _lock(challenger, verdict, recorded_estimate(challenger.model.request, project))
            taken = taken_versions(project, lock.agent)
            lock = replace(lock, version=next_version(challenger.previous, lock, taken))
            evidence = challenger.evidence
            write_with_passport(project, lock, code, _logs(evidence), tuple(_baselines(evidence)))
    return promotions


def _says(lock: Lock, spec: AgentSpec, model: TrainedModel, bench: Benchmark) -> bool:
    """Whether the lock already holds this model, judged on these cases by this scorer and gate."""
    return (
        lock.model_id == model.job.model_id
        and lock.benchmark["fingerprint"] == bench.fingerprint
        and lock.verdict["gate"] == spec.gate.model_dump()
    )


def _logs(evidence: Evidence) -> dict[str, str]:
    """Where inspect wrote down every answer, below .gitune on the machine that asked."""
    found = {"challenger": evidence.challenger.log, "latency": evidence.challenger.latency_log}
    if not isinstance(evidence.base, Unanswered):
        found["base"] = evidence.base.log
    if evidence.safety is not None:
        found["safety"] = evidence.safety.challenger.log
        if not isinstance(evidence.safety.base, Unanswered):
            found["safety-base"] = evidence.safety.base.log
    return found


def _baselines(evidence: Evidence) -> Iterator[Baseline]:
    contest = evidence.contest
    for role, scores in (("base model", contest.base), ("deployed model", contest.deployed)):
        if isinstance(scores, Unanswered):
            yield Baseline(role=role, model_id=None, accuracy=None, reason=scores.reason)
        elif scores is not None:
            yield Baseline(role=role, model_id=scores.model_id, accuracy=round(scores.accuracy, 4))


def _safety(evidence: SafetyEvidence) -> dict[str, Any]:
    """What two judges counted: each number is that of prompts."""
    counts = count_behaviours(evidence.challenger.found)
    return {**counts, "judges": [judge.name for judge in evidence.spec.judges]}


def _lock(challenger: Challenger, verdict: Verdict, estimate: Estimate) -> Lock:
    spec, model, evidence = challenger.spec, challenger.model, challenger.evidence
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
            "missing": evidence.missing,
            "fingerprint": evidence.fingerprint,
            "accuracy": round(evidence.challenger.accuracy, 4),
            "base_accuracy": None if isinstance(evidence.base, Unanswered) else round(evidence.base.accuracy, 4),
            "latency_seconds": round(evidence.challenger.latency, 3),
            "scorer": spec.benchmark.scorer.kind,
            "runs": spec.benchmark.runs,
            **({"safety": _safety(evidence.safety)} if evidence.safety else {}),
            "logs": _logs(evidence),
        },
        verdict={
            "outcome": verdict.outcome,
            "reasons": list(verdict.reasons),
            "gate": spec.gate.model_dump(),
        },
    )
