"""Ask models the cases, and keep the scores."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gitune.benchmark.cases import Case, cases_fingerprint, load_cases
from gitune.benchmark.gate import Verdict, judge
from gitune.benchmark.scores import Scores, Unanswered, load_scores, save_scores, score_answers, scores_file
from gitune.dataset.chat import as_dicts
from gitune.errors import NotFound, ProviderError, Retired, explain
from gitune.hosted import answer_all, measure_latency, open_hosted
from gitune.lock import Lock
from gitune.project import Project
from gitune.providers.base import ChatTarget, LocalTarget
from gitune.spec import AgentSpec, BenchmarkSpec

if TYPE_CHECKING:
    from gitune.inference import LocalModel

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
    cases = load_cases(spec, project.root)
    fingerprint = cases_fingerprint(cases)
    target = project.provider(provider).chat_target(model_id)
    bench = _Benchmark(project.state_folder / "scores", cases, fingerprint, spec.benchmark, on_progress)
    base = _base_scores(bench, provider, target)
    challenger = bench.scores("challenger", model_id, target, timed=True)
    deployed = None
    if lock is not None and lock.model_id != model_id:
        deployed = _deployed_scores(bench, project, lock)
    verdict = judge(spec.gate, challenger, base, deployed)
    return Evidence(len(cases), fingerprint, challenger, base, deployed, verdict)


@dataclass(frozen=True, slots=True)
class _Benchmark:
    folder: Path
    cases: Sequence[Case]
    fingerprint: str
    settings: BenchmarkSpec
    on_progress: OnProgress

    def scores(self, label: str, model_id: str, target: ChatTarget, *, timed: bool) -> Scores:
        path = scores_file(self.folder, model_id, self.fingerprint, self.settings)
        known = load_scores(path)
        if known is not None:
            return known
        answers, latencies = self._ask(label, target, timed)
        scored = score_answers(self.cases, answers, self.settings.scorer)
        scores = Scores(model_id, scored, tuple(latencies))
        save_scores(path, scores)
        return scores

    def _ask(self, label: str, target: ChatTarget, timed: bool) -> tuple[list[str], list[float]]:
        conversations = [as_dicts(case.messages) for case in self.cases]
        longest = self.settings.max_new_tokens
        some = _spread(conversations, self.settings.latency_cases) if timed else []
        self.on_progress(label, 0, len(conversations))

        def tell(done: int, total: int) -> None:
            self.on_progress(label, done, total)

        if isinstance(target, LocalTarget):
            model = _loaded(target.base_model)
            model.use_adapter(target.adapter)
            generations = model.generate(conversations, max_new_tokens=longest, on_progress=tell)
            return [generation.text for generation in generations], model.measure_latency(some, longest)
        hosted = open_hosted(target)
        generations = answer_all(hosted, conversations, longest, tell)
        return [generation.text for generation in generations], measure_latency(hosted, some, longest)


@functools.lru_cache(maxsize=1)
def _loaded(base_model: str) -> LocalModel:
    """One base model in memory answers as itself and as every adapter on it."""
    from gitune.inference import LocalModel  # imports torch: seconds
    from gitune.training.base_model import resolve_base_model

    return LocalModel.open(resolve_base_model(base_model))


def _spread(conversations: list[list[dict[str, str]]], count: int) -> list[list[dict[str, str]]]:
    """`count` of them, evenly over the whole list."""
    step = max(len(conversations) / count, 1.0)
    return [conversations[int(i * step)] for i in range(min(count, len(conversations)))]


def _deployed_scores(bench: _Benchmark, project: Project, lock: Lock) -> Scores | Unanswered | None:
    try:
        target = project.provider(lock.provider).chat_target(lock.model_id)
        return bench.scores("deployed model", lock.model_id, target, timed=True)
    except (NotFound, Retired):
        return None  # it no longer exists, so there is nothing to lose
    except ProviderError as error:
        return Unanswered(f"{lock.provider}: {explain(error)}")


def _base_scores(bench: _Benchmark, provider: str, target: ChatTarget) -> Scores | Unanswered:
    untuned = (
        replace(target, adapter=None) if isinstance(target, LocalTarget) else replace(target, model=target.base_model)
    )
    try:
        return bench.scores("base model", f"{provider}:{target.base_model}", untuned, timed=False)
    except (NotFound, Retired) as error:
        return Unanswered(f"{target.base_model}: {error.message}")
