"""Ask models the cases, and keep the scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from gitune.benchmark.cases import Case, cases_fingerprint, load_cases
from gitune.benchmark.gate import Contest
from gitune.benchmark.grading import Grading, open_grading
from gitune.benchmark.models import NamedModel, untuned
from gitune.benchmark.safety import SafetyBenchmark, SafetyEvidence, open_safety
from gitune.benchmark.scores import Scores, Unanswered, load_scores, save_scores, scores_file
from gitune.errors import NotFound, ProviderError, Retired, UserError, explain
from gitune.hashing import canonical_json, sha256
from gitune.lock import Lock
from gitune.project import Project
from gitune.providers.base import address
from gitune.spec import AgentSpec, BenchmarkSpec, GateSpec

OnProgress = Callable[[str, int, int], None]
"""(what is asked, answers so far, answers in all)"""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the gate is shown."""

    cases: int
    fingerprint: str
    contest: Contest
    safety: SafetyEvidence | None

    @property
    def challenger(self) -> Scores:
        return self.contest.challenger

    @property
    def base(self) -> Scores | Unanswered:
        return self.contest.base

    @property
    def missing(self) -> int:
        """Answers of the challenger and of the base model that have no score."""
        return sum(len(scores.errors) for scores in (self.challenger, self.base) if isinstance(scores, Scores))


def gather_evidence(
    bench: Benchmark, project: Project, gate: GateSpec, model: NamedModel, lock: Lock | None
) -> Evidence:
    """Benchmark the model, its base model and the deployed model on the agent's cases; what is unchanged is free."""
    base_model = untuned(model.provider, model.target)
    base = bench.try_scores(base_model)
    challenger = bench.scores(model, timed=True)
    deployed = None
    if lock is not None and lock.model_id != model.model_id:
        deployed = _deployed_scores(bench, project, lock)
    safety = bench.safety.gather(model, base_model) if bench.safety else None
    return Evidence(len(bench.cases), bench.fingerprint, Contest(gate, challenger, base, deployed), safety)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """An agent's cases and scorer, ready for any model."""

    agent: str
    folder: Path
    """.gitune"""
    cases: Sequence[Case]
    settings: BenchmarkSpec
    grading: Grading
    safety: SafetyBenchmark | None
    on_progress: OnProgress

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of the cases and of everything that decides what an answer to them is worth."""
        safety = [canonical_json(self.safety.settings())] if self.safety else []
        return sha256([cases_fingerprint(self.cases), canonical_json(self._settings(timed=True)), *safety])

    def scores(self, model: NamedModel, *, timed: bool) -> Scores:
        """The model's scores, from where they are kept or by asking it.

        Raises ProviderError when it answers nothing; single answers may be `missing`, and are asked for
        again the next time.
        """
        path = self._file(model, timed)
        known = load_scores(path)
        if known is not None and all((self.folder / log).is_file() for log in known.logs):
            return known
        scores = self._ask(model, timed)
        if not scores.missing:
            save_scores(path, scores)
        return scores

    def try_scores(self, model: NamedModel) -> Scores | Unanswered:
        """The scores, untimed; why there are none, where nobody serves the model."""
        try:
            return self.scores(model, timed=False)
        except (NotFound, Retired) as error:
            return Unanswered(f"{model.model_id}: {error.message}")

    def _ask(self, model: NamedModel, timed: bool) -> Scores:
        if model.gone:
            raise NotFound(model.gone)
        inspect_run = _inspect()
        label = model.label or model.name
        total = len(self.cases) * self.settings.runs
        self.on_progress(label, 0, total)
        shop = inspect_run.Workshop(self.agent, self.folder, self.settings.max_new_tokens, self.settings.runs)
        (asked,) = inspect_run.ask_cases(
            shop, model, self.cases, [self.grading], lambda done: self.on_progress(label, done, total)
        )
        log = asked.log.relative_to(self.folder).as_posix()
        if not timed:
            return Scores(model.model_id, asked.scores, (), asked.missing, log=log)
        told = inspect_run.time_answers(shop, model, spread(self.cases, self.settings.latency_cases))
        latency_log = told.log.relative_to(self.folder).as_posix()
        return Scores(model.model_id, asked.scores, told.seconds, asked.missing, told.missing, log, latency_log)

    def _file(self, model: NamedModel, timed: bool) -> Path:
        """Named by everything that decides the scores. A server's address is among it: names are not unique."""
        settings = {**self._settings(timed=timed), "address": address(model.target)}
        return scores_file(self.folder / "scores", model.name, cases_fingerprint(self.cases), settings)

    def _settings(self, *, timed: bool) -> dict[str, Any]:
        return {
            "scorer": self.grading.settings,
            "max_new_tokens": self.settings.max_new_tokens,
            "runs": self.settings.runs,
            "latency_cases": self.settings.latency_cases if timed else 0,
        }


def open_benchmark(
    spec: AgentSpec, project: Project, on_progress: OnProgress, *, cases: int | None = None, runs: int | None = None
) -> Benchmark:
    """`cases`: only so many of them, spread over the file. Raises InvalidInput, UserError or ProviderError."""
    chosen = load_cases(spec, project.root)
    chosen = tuple(spread(chosen, cases)) if cases is not None else chosen
    settings = spec.benchmark.model_copy(update={"runs": runs}) if runs is not None else spec.benchmark
    grading = open_grading(spec, project)
    safety = open_safety(spec, project, chosen)
    return Benchmark(spec.name, project.state_folder, chosen, settings, grading, safety, on_progress)


def spread(cases: Sequence[Case], count: int) -> Sequence[Case]:
    """`count` of them, evenly over the whole list."""
    step = max(len(cases) / count, 1.0)
    return [cases[int(number * step)] for number in range(min(count, len(cases)))]


def _deployed_scores(bench: Benchmark, project: Project, lock: Lock) -> Scores | Unanswered | None:
    try:
        target = project.provider(lock.provider).chat_target(lock.model_id)
        return bench.scores(NamedModel(lock.provider, lock.model_id, target, "deployed model"), timed=True)
    except (NotFound, Retired):
        return None  # it no longer exists, so there is nothing to lose
    except ProviderError as error:
        return Unanswered(f"{lock.provider}: {explain(error)}")


def _inspect() -> ModuleType:
    try:
        from gitune.benchmark import inspect_run  # imports inspect: seconds
    except ModuleNotFoundError as error:
        if error.name != "inspect_ai":
            raise
        raise UserError("a benchmark needs inspect", hint="pip install 'gitune[benchmark]'") from error
    return inspect_run
