"""Ask models the cases, and keep the scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from gitune.benchmark.cases import Case, cases_fingerprint, load_cases
from gitune.benchmark.gate import Check, Verdict, judge
from gitune.benchmark.grading import Grading, open_grading
from gitune.benchmark.models import NamedModel, untuned
from gitune.benchmark.scores import Scores, Unanswered, load_scores, save_scores, scores_file
from gitune.errors import NotFound, ProviderError, Retired, UserError, explain
from gitune.lock import Lock
from gitune.project import Project
from gitune.providers.base import address
from gitune.spec import AgentSpec, BenchmarkSpec

OnProgress = Callable[[str, int, int], None]
"""(what is asked, answers so far, answers in all)"""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the gate saw, and what it said."""

    cases: int
    fingerprint: str
    challenger: Scores
    base: Scores | Unanswered
    deployed: Scores | Unanswered | None
    verdict: Verdict


def gather_evidence(
    spec: AgentSpec, project: Project, provider: str, model_id: str, lock: Lock | None, on_progress: OnProgress
) -> Evidence:
    """Benchmark the model, its base model and the deployed model on the agent's cases; what is unchanged is free."""
    bench = open_benchmark(spec, project, on_progress)
    model = NamedModel(provider, model_id, project.provider(provider).chat_target(model_id), "challenger")
    base = bench.try_scores(untuned(provider, model.target))
    challenger = bench.scores(model, timed=True)
    deployed = None
    if lock is not None and lock.model_id != model_id:
        deployed = _deployed_scores(bench, project, lock)
    known = [scores for scores in (challenger, base, deployed) if isinstance(scores, Scores)]
    verdict = _incomplete(known) or judge(spec.gate, challenger, base, deployed)
    return Evidence(len(bench.cases), bench.fingerprint, challenger, base, deployed, verdict)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """An agent's cases and scorer, ready for any model."""

    agent: str
    folder: Path
    """.gitune"""
    cases: Sequence[Case]
    fingerprint: str
    settings: BenchmarkSpec
    grading: Grading
    on_progress: OnProgress

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
        asked = inspect_run.ask_cases(
            shop, model, self.cases, self.grading, lambda done: self.on_progress(label, done, total)
        )
        log = asked.log.relative_to(self.folder).as_posix()
        if not timed:
            return Scores(model.model_id, asked.scores, (), asked.missing, log=log)
        told = inspect_run.time_answers(shop, model, spread(self.cases, self.settings.latency_cases))
        latency_log = told.log.relative_to(self.folder).as_posix()
        return Scores(model.model_id, asked.scores, told.seconds, asked.missing, told.missing, log, latency_log)

    def _file(self, model: NamedModel, timed: bool) -> Path:
        """Named by everything that decides the scores. A server's address is among it: names are not unique."""
        settings = {
            "scorer": self.grading.settings,
            "max_new_tokens": self.settings.max_new_tokens,
            "runs": self.settings.runs,
            "latency_cases": self.settings.latency_cases if timed else 0,
            "address": address(model.target),
        }
        return scores_file(self.folder / "scores", model.name, self.fingerprint, settings)


def open_benchmark(
    spec: AgentSpec, project: Project, on_progress: OnProgress, *, cases: int | None = None, runs: int | None = None
) -> Benchmark:
    """`cases`: only so many of them, spread over the file. Raises InvalidInput, UserError or ProviderError."""
    chosen = load_cases(spec, project.root)
    chosen = tuple(spread(chosen, cases)) if cases is not None else chosen
    settings = spec.benchmark.model_copy(update={"runs": runs}) if runs is not None else spec.benchmark
    grading = open_grading(spec, project)
    return Benchmark(spec.name, project.state_folder, chosen, cases_fingerprint(chosen), settings, grading, on_progress)


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


def _incomplete(known: Sequence[Scores]) -> Verdict | None:
    """An answer that is missing is neither right nor wrong, so nothing is judged without it."""
    checks = []
    for scores in known:
        if scores.missing:
            asked, first = len(scores.scores) + len(scores.missing), scores.missing[0]
            reason = (
                f"{len(scores.missing)} of {asked} answers of {scores.model_id} are missing, the first for case "
                f"{first.case_id}: {first.reason}; the next run asks only for these"
            )
            checks.append(Check("answered", "inconclusive", reason))
    return Verdict("inconclusive", tuple(checks)) if checks else None


def _inspect() -> ModuleType:
    try:
        from gitune.benchmark import inspect_run  # imports inspect: seconds
    except ModuleNotFoundError as error:
        if error.name != "inspect_ai":
            raise
        raise UserError("a benchmark needs inspect", hint="pip install 'gitune[benchmark]'") from error
    return inspect_run
