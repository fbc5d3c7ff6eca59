"""One model on an agent's cases as an evaluation of inspect's: its task, epochs, cache and log."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from inspect_ai import Epochs, Task, eval  # noqa: A004 - inspect's name
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import EvalLog, EvalSample
from inspect_ai.model import CachePolicy, ChatMessageUser, GenerateConfig, Model
from inspect_ai.scorer import Score as InspectScore
from inspect_ai.scorer import Scorer, Target, mean, scorer, stderr
from inspect_ai.solver import TaskState, generate

from gitune.benchmark.answers import Guarded
from gitune.benchmark.cases import Case
from gitune.benchmark.grading import Grading
from gitune.benchmark.inspect_messages import to_inspect
from gitune.benchmark.inspect_provider import inspect_model, open_answers
from gitune.benchmark.judge import NoVerdict
from gitune.benchmark.models import NamedModel
from gitune.benchmark.scores import Missing, Score
from gitune.dataset.chat import as_dicts
from gitune.errors import GituneError, ProviderError, Unavailable, UserError

_JUDGED_TOGETHER = 32
_FOREVER = CachePolicy(expiry=None, per_epoch=True)


@dataclass(frozen=True, slots=True)
class Asked:
    """What inspect's log says."""

    scores: tuple[Score, ...]
    missing: tuple[Missing, ...]
    log: Path


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of answers asked one at a time."""

    seconds: tuple[float, ...]
    missing: tuple[Missing, ...]
    log: Path


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where an agent's evaluations are kept, and how long an answer may be."""

    agent: str
    folder: Path
    """.gitune: logs/ and cache/ are below it."""
    max_new_tokens: int
    runs: int = 1


def ask_cases(
    shop: Workshop,
    model: NamedModel,
    cases: Sequence[Case],
    gradings: Sequence[Grading],
    on_scored: Callable[[int], None],
) -> tuple[Asked, ...]:
    """Every case in every run, each answer graded by all. Answers that were given once are not paid for again.

    One `Asked` for each grading; a case that one of them could not grade is missing from all. Raises ProviderError when
    no case at all could be answered, and UserError for a scorer that fails.
    """
    answers = Guarded(open_answers(model.target, len(cases) * shop.runs))
    judges = [_Judge(grading) for grading in gradings]
    known = {case.case_id: case for case in cases}
    log = _evaluate(
        shop,
        name=shop.agent,
        model=inspect_model(model.name, model.target, answers),
        cases=cases,
        scorers=[_scorer(judge, known, on_scored, number) for number, judge in enumerate(judges)],
        max_samples=answers.at_once,
        cache=_FOREVER,
    )
    order = {case_id: number for number, case_id in enumerate(known)}
    samples = sorted(log.samples or [], key=lambda sample: (sample.epoch, order[str(sample.id)]))
    graded = [sample for sample in samples if sample.scores and not sample.error]
    missing = tuple(_missing(sample, sample.epoch) for sample in samples if sample.error or not sample.scores)
    for judge in judges:
        if judge.wrong is not None:
            raise judge.wrong
    if answers.fatal is not None:
        raise answers.fatal
    if not graded and missing:
        refused = next((judge.first_error for judge in judges if judge.first_error), None)
        raise answers.first_error or refused or Unavailable(missing[0].reason)
    names = [_scorer_name(judge.grading, number) for number, judge in enumerate(judges)]
    return tuple(Asked(tuple(_score(sample, name) for sample in graded), missing, Path(log.location)) for name in names)


def time_answers(shop: Workshop, model: NamedModel, cases: Sequence[Case]) -> Timed:
    """Seconds from question to whole answer, network included, one question at a time. Raises ProviderError."""
    answers = Guarded(open_answers(model.target, len(cases), alone=True))
    asked = inspect_model(model.name, model.target, answers)
    log = _evaluate(shop, name=f"{shop.agent}-latency", model=asked, cases=cases, max_samples=1)
    if answers.fatal is not None:
        raise answers.fatal
    samples = log.samples or []
    seconds = tuple(float(sample.output.time or 0.0) for sample in samples if not sample.error)
    return Timed(seconds, tuple(_missing(sample, 0) for sample in samples if sample.error), Path(log.location))


def grade_answers(shop: Workshop, answers: Sequence[tuple[Case, str]], grading: Grading) -> tuple[float | None, ...]:
    """Grades of answers that are known; None where the judge gave none. Raises UserError or ProviderError."""
    judge = _Judge(grading)
    grades: list[float | None] = [None] * len(answers)

    async def grade(number: int, limit: anyio.CapacityLimiter) -> None:
        case, answer = answers[number]
        async with limit:
            with contextlib.suppress(ProviderError, NoVerdict):
                grades[number] = (await grading.grade(answer, case, judge.ask)).value

    async def grade_all() -> None:
        limit = anyio.CapacityLimiter(_JUDGED_TOGETHER)
        async with anyio.create_task_group() as tasks:
            for number in range(len(answers)):
                tasks.start_soon(grade, number, limit)

    os.environ["INSPECT_CACHE_DIR"] = str(shop.folder / "cache")
    with _quiet():
        anyio.run(grade_all)
    if judge.wrong is not None:
        raise judge.wrong
    if judge.first_error is not None and not any(grade is not None for grade in grades):
        raise judge.first_error
    return tuple(grades)


def _evaluate(
    shop: Workshop,
    *,
    name: str,
    model: Model,
    cases: Sequence[Case],
    max_samples: int,
    scorers: Sequence[Scorer] = (),
    cache: CachePolicy | bool = False,
) -> EvalLog:
    runs = shop.runs if scorers else 1
    task = Task(
        name=name,
        dataset=MemoryDataset([_sample(case) for case in cases], name=f"{shop.agent} cases"),
        solver=generate(cache=cache),
        scorer=list(scorers) or None,
        epochs=Epochs(runs, "mean"),
        config=GenerateConfig(max_tokens=shop.max_new_tokens, temperature=0),
        fail_on_error=False,
    )
    os.environ["INSPECT_CACHE_DIR"] = str(shop.folder / "cache")
    with _quiet():
        logs = eval(
            task,
            model=model,
            log_dir=str(shop.folder / "logs"),
            log_format="eval",
            log_realtime=False,
            log_level="error",
            display="none",
            ctl_server=False,
            max_samples=max_samples,
        )
    if not logs or logs[0].status == "cancelled":
        raise KeyboardInterrupt  # inspect has caught it and put the log away
    log = logs[0]
    if log.status != "success":
        reason = log.error.message if log.error else log.status
        raise UserError(f"inspect could not run the benchmark of {shop.agent}: {reason}", hint=f"see {log.location}")
    return log


class _Judge:
    """Asks the judge, if there is one; keeps what went wrong with the scorer itself."""

    def __init__(self, grading: Grading) -> None:
        self.grading = grading
        self.wrong: GituneError | None = None
        self.first_error: ProviderError | None = None
        self._guard: Guarded | None = None
        self._model: Model | None = None
        if grading.judge is not None:
            self._guard = Guarded(open_answers(grading.judge.target, _JUDGED_TOGETHER))
            self._model = inspect_model(grading.judge.name, grading.judge.target, self._guard)

    async def ask(self, prompt: str, max_new_tokens: int) -> str:
        assert self._model is not None
        assert self._guard is not None
        config = GenerateConfig(max_tokens=max_new_tokens, temperature=0)
        try:
            output = await self._model.generate([ChatMessageUser(content=prompt)], config=config, cache=_FOREVER)
        finally:
            self.first_error, self.wrong = self._guard.first_error, self._guard.fatal
        return str(output.completion)


def _scorer(judge: _Judge, cases: Mapping[str, Case], on_scored: Callable[[int], None], number: int) -> Scorer:
    done = 0

    @scorer(metrics=[mean(), stderr()], name=_scorer_name(judge.grading, number))  # type: ignore[untyped-decorator]
    def graded() -> Scorer:
        async def score(state: TaskState, target: Target) -> InspectScore:  # noqa: ARG001 - inspect's protocol
            nonlocal done
            try:
                found = await judge.grading.grade(state.output.completion, cases[str(state.sample_id)], judge.ask)
            except UserError as error:
                judge.wrong = judge.wrong or error
                raise
            done += 1
            on_scored(done)
            return InspectScore(value=found.value, answer=state.output.completion, explanation=found.verdict or None)

        return score

    return graded()


def _scorer_name(grading: Grading, number: int) -> str:
    return grading.kind if number == 0 else f"{grading.kind}_{number + 1}"


def _sample(case: Case) -> Sample:
    told: dict[str, Any] = {"source": case.source, "facts": list(case.facts), "fields": list(case.fields)}
    metadata = {key: value for key, value in told.items() if value}
    messages = to_inspect(as_dicts(case.messages))
    return Sample(id=case.case_id, input=messages, target=case.target, metadata=metadata or None)


def _score(sample: EvalSample, name: str) -> Score:
    score = sample.scores[name]
    source = sample.metadata.get("source")
    answer = sample.output.completion
    return Score(str(sample.id), answer, float(score.value), source, sample.epoch, score.explanation or "")


def _missing(sample: EvalSample, epoch: int) -> Missing:
    reason = sample.error.message if sample.error else "not scored"
    return Missing(str(sample.id), epoch, " ".join(reason.split())[:300])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """inspect puts a handler on the root logger, and warns of what a user could not mend."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
