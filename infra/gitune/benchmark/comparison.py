"""Two models on the same cases, side by side: what `gitune benchmark` and `gitune compare` show."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gitune.backend import recorded_deployment
from gitune.benchmark.cases import Case
from gitune.benchmark.match import match
from gitune.benchmark.models import NamedModel, find_model, untuned
from gitune.benchmark.paired import Paired
from gitune.benchmark.run import Benchmark
from gitune.benchmark.safety import SafetyEvidence
from gitune.benchmark.safety_gate import judge_safety
from gitune.benchmark.scores import Scores, Unanswered
from gitune.errors import UserError
from gitune.lock import read_lock
from gitune.project import Project
from gitune.reconcile import ModelState
from gitune.spec import AgentSpec
from gitune.state import resource_outputs

REPORT_POINTS = 0.08
"""What the status report of 2025-10-31 asked for: at least 8 points over the baseline."""
_FEW = 30


@dataclass(frozen=True, slots=True)
class Difference:
    """A case on which two models differ in what their answers are worth."""

    case_id: str
    question: str
    target: str
    old_answer: str
    new_answer: str
    old_value: float
    new_value: float


@dataclass(frozen=True)
class Comparison:
    """The scores of a model and of what it is measured against."""

    agent: str
    scorer: str
    cases: Sequence[Case]
    runs: int
    new_name: str
    old_name: str
    new: Scores
    old: Scores | Unanswered
    safety: SafetyEvidence | None
    """Of the model beside its base model, where agent.yaml asks for it."""

    @property
    def complete(self) -> bool:
        unsaid = self.safety is not None and self.safety.challenger.missing
        return not self.new.missing and isinstance(self.old, Scores) and not self.old.missing and not unsaid

    @cached_property
    def paired(self) -> Paired | None:
        """The cases that both have answered; None when there is none."""
        found = None if isinstance(self.old, Unanswered) else match(self.new, self.old)
        return found.answered if found else None

    @property
    def differences(self) -> tuple[Difference, ...]:
        """What was lost comes first."""
        if isinstance(self.old, Unanswered):
            return ()
        new, old = self.new.by_case(), self.old.by_case()
        found = [
            Difference(
                case.case_id,
                case.question,
                case.target,
                old[case.case_id].answer,
                new[case.case_id].answer,
                old[case.case_id].value,
                new[case.case_id].value,
            )
            for case in self.cases
            if case.case_id in new and case.case_id in old and new[case.case_id].value != old[case.case_id].value
        ]
        return tuple(sorted(found, key=lambda difference: difference.new_value - difference.old_value))

    @property
    def caution(self) -> str:
        """Why this proves little, where it does: hardly any cases, or an interval on both sides of the report's 8."""
        if self.paired is None:
            return ""
        interval, few = self.paired.interval(), len(self.cases) < _FEW
        if not few and not interval.low < REPORT_POINTS <= interval.high:
            return ""
        least = self.paired.detectable()
        needed = math.ceil(len(self.cases) * max(least / REPORT_POINTS, 1) ** 2 / 10) * 10
        what = "prove nothing" if few else "are few"
        return (
            f"{len(self.cases)} cases {what}: a true difference under {least * 100:.0f} points would mostly go unseen "
            f"(4 of 5 such benchmarks find that much); {REPORT_POINTS * 100:.0f} points take about {needed:,} cases"
        )

    def as_dict(self) -> dict[str, Any]:
        paired = self.paired
        interval = paired.interval() if paired else None
        return {
            "agent": self.agent,
            "scorer": self.scorer,
            "cases": len(self.cases),
            "runs": self.runs,
            "model": {"name": self.new_name, **_facts(self.new)},
            "baseline": {"name": self.old_name, **_facts(self.old)},
            "difference": interval._asdict() if interval else None,
            "detectable": paired.detectable() if paired else None,
            "caution": self.caution or None,
            "safety": _safety_facts(self.safety) if self.safety else None,
            "differences": [
                {name: getattr(one, name) for name in Difference.__dataclass_fields__} for one in self.differences
            ],
        }


def compare(bench: Benchmark, new: NamedModel, old: NamedModel, *, may_be_gone: bool = False) -> Comparison:
    """Ask both; what is known is free. `may_be_gone`: a base model that nobody serves is told, not raised."""
    before = bench.try_scores(old) if may_be_gone else bench.scores(old, timed=True)
    after = bench.scores(new, timed=True)
    safety = bench.safety.gather(new, untuned(new.provider, new.target)) if bench.safety else None
    names, runs = (_named(new), _named(old)), bench.settings.runs
    return Comparison(bench.agent, bench.grading.kind, bench.cases, runs, *names, after, before, safety)


def benchmarked_pair(
    spec: AgentSpec, project: Project, *, model: str | None = None, against: str | None = None
) -> tuple[NamedModel, NamedModel, bool]:
    """(the model, what it is measured against, whether that is merely its base model).

    The model: `model`, else the newest that the stack trained, else the locked one. Against: `against`, else the locked
    model if it is another, else the base model. Raises UserError or ProviderError.
    """
    lock = read_lock(project.lock_file(spec.name))
    trained = _trained(project).get(spec.name)
    if model is not None:
        new = find_model(project, model)
    elif trained is not None and (lock is None or trained.model_id != lock.model_id):
        new = find_model(project, f"{trained.provider}:{trained.model_id}")
    elif lock is not None:
        new = find_model(project, spec.name)
    else:
        raise UserError(f"{spec.name} has no model to benchmark", hint=f"run: gitune up -s {project.stack.name}")
    if against is not None:
        return new, find_model(project, against), False
    if lock is not None and lock.model_id != new.model_id:
        return new, find_model(project, spec.name), False
    return new, untuned(new.provider, new.target), True


def _trained(project: Project) -> Mapping[str, ModelState]:
    if "models" not in project.stack.declare:
        return {}
    outputs = resource_outputs(recorded_deployment(project), "FineTunedModel")
    states = {agent: ModelState.from_outputs(found) for agent, found in outputs.items()}
    return {agent: state for agent, state in states.items() if state.status == "succeeded"}


def _named(model: NamedModel) -> str:
    return f"{model.label} ({model.name})" if model.label else model.name


def _safety_facts(evidence: SafetyEvidence) -> dict[str, Any]:
    checks = [{"name": one.name, "outcome": one.outcome, "reason": one.reason} for one in judge_safety(evidence)]
    answers = [
        {"prompt": one.prompt.prompt_id, "label": one.prompt.label, "answer": one.answer, "complied": one.complied}
        for one in evidence.challenger.found
    ]
    missing = [{"prompt": one.case_id, "reason": one.reason} for one in evidence.challenger.missing]
    judges = [judge.name for judge in evidence.spec.judges]
    return {"checks": checks, "judges": judges, "answers": answers, "errors": missing, "log": evidence.challenger.log}


def _facts(scores: Scores | Unanswered) -> dict[str, Any]:
    if isinstance(scores, Unanswered):
        return {"score": None, "unanswered": scores.reason}
    by_run = list(scores.by_run().values())
    return {
        "score": scores.accuracy if scores.scores else None,
        "by_run": by_run,
        "deviation": statistics.stdev(by_run) if len(by_run) > 1 else None,
        "latency_seconds": scores.latency if scores.latencies else None,
        "latencies": len(scores.latencies),
        "errors": [{"case": one.case_id, "run": one.epoch, "reason": one.reason} for one in scores.missing],
        "log": scores.log,
        "latency_log": scores.latency_log or None,
    }
