"""What an agent of these examples would be: scorer, benchmark and split. Writes nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from gitune.benchmark.cases import Case
from gitune.benchmark.scorers import check_case
from gitune.dataset.chat import Example, Message, first_problems
from gitune.dataset.formats import Reader
from gitune.dataset.rules import DEFAULTS, Settings, apply
from gitune.errors import InvalidInput, Problem, UserError
from gitune.new_agent.columns import Shape
from gitune.new_agent.cut import Cut, count_questions, cut_cases, propose_count
from gitune.new_agent.reading import Table
from gitune.new_agent.scoring import Scoring, propose_scoring
from gitune.scorer_spec import Scorer
from gitune.spec import RuleId, Severity

_PRIVATE: tuple[RuleId, ...] = ("email", "phone", "credit-card", "api-key")
_DECIDES = re.compile(r"dataset\.rules\.([\w-]+) decides what happens")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user said; None and empty: what is proposed."""

    name: str
    alias: str | None = None
    description: str | None = None
    licence: str | None = None
    scorer: str | None = None
    cases: int | None = None
    examples: int | None = None
    validation: float | None = None
    providers: tuple[str, ...] = ("local",)
    rules: Mapping[RuleId, Severity] | None = None
    link: bool = False


@dataclass(frozen=True, slots=True)
class Proposal:
    """An agent that is not written yet."""

    wishes: Wishes
    table: Table
    shape: Shape
    scoring: Scoring
    cut: Cut
    questions: int
    dropped: int
    """Examples that hold what is personal or secret."""
    validation: float


def read_examples(table: Table, shape: Shape, system: str | None = None) -> tuple[Example, ...]:
    """The conversations of all rows; `system` is put before those that have no system message. Raises InvalidInput."""
    reader = Reader(shape.format, dict(shape.columns or {}))
    problems: list[Problem] = []
    examples = []
    for line, row in table.rows:
        example = reader.read(row, table.file.shown, line, problems)
        if example is not None:
            examples.append(example)
    if problems:
        raise InvalidInput(first_problems(problems))
    if system is None or shape.columns:
        return tuple(examples)
    first = Message("system", system)
    return tuple(
        example if example.messages[0].role == "system" else replace(example, messages=(first, *example.messages))
        for example in examples
    )


def propose(wishes: Wishes, table: Table, shape: Shape, read: Sequence[Example]) -> Proposal:
    """Scorer, cases and split. Raises InvalidInput where no benchmark can be cut off, and for what no file may hold."""
    examples = _fit_to_keep(wishes, read)
    if not examples:
        raise InvalidInput([Problem(table.file.shown, 0, "no example is left after the rules")])
    scoring = propose_scoring([example.messages[-1].content for example in examples])
    if wishes.scorer is not None and wishes.scorer != scoring.scorer:
        scoring = replace(scoring, scorer=wishes.scorer, reason="as asked")
    scorer = _scorer(scoring.scorer)
    questions = count_questions(examples)
    wanted = propose_count(questions) if wishes.cases is None else wishes.cases
    cut = cut_cases(examples, wanted, scorer, by_answer=bool(scoring.labels))
    file = table.file.shown
    if not cut.cases:
        _check_answers(examples, scorer)
        hint = "at least two questions are needed: one to train on, one to ask"
        raise InvalidInput([Problem(file, 0, "no question can be held back for the benchmark", hint)])
    if wishes.cases is not None and len(cut.cases) < wishes.cases:
        message = f"only {len(cut.cases)} of {questions} questions can be held back, not {wishes.cases}"
        hint = "of each answer one stays, and a question with two answers cannot be judged"
        raise InvalidInput([Problem(file, 0, message, f"--cases {len(cut.cases)} or fewer; {hint}")])
    if not cut.training:
        hint = "take fewer cases: --cases 5"
        raise InvalidInput([Problem(file, 0, "no example is left to train on: all are near a case", hint)])
    dropped, validation = len(read) - len(examples), _validation(wishes, len(cut.training))
    return Proposal(wishes, table, shape, scoring, cut, questions, dropped, validation)


def _fit_to_keep(wishes: Wishes, examples: Sequence[Example]) -> tuple[Example, ...]:
    """Without what is personal or secret and is to be dropped. It must not get into the cases either, which the rules
    of a dataset do not look at. Raises InvalidInput where it is not said to be dropped or kept.
    """
    wanted = {rule: (wishes.rules or {}).get(rule, DEFAULTS[rule]) for rule in _PRIVATE}
    cleaned = apply(examples, (), Settings(severities={rule: wanted.get(rule, "off") for rule in DEFAULTS}))
    problems = cleaned.problems()
    if problems:
        raise InvalidInput([replace(problem, hint=as_flag(problem.hint)) for problem in problems])
    return cleaned.kept


def as_flag(hint: str | None) -> str | None:
    """A rule's hint for somebody who has no agent.yaml yet."""
    return hint and _DECIDES.sub(r"--rule \1=drop leaves such examples out, warn and off keep them", hint)


def _check_answers(examples: Sequence[Example], scorer: Scorer) -> None:
    """Raises InvalidInput where the scorer can make nothing of the answers."""
    for example in examples:
        wrong = check_case(scorer, Case("", example.prompt, example.messages[-1].content, example.line))
        if wrong is not None:
            raise InvalidInput([Problem(example.file, example.line, wrong, "--scorer names another")])


def _scorer(name: str) -> Scorer:
    """Raises UserError."""
    try:
        return Scorer.model_validate(name)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        raise UserError(f"--scorer: {wrong['msg']}", hint=wrong.get("ctx", {}).get("hint")) from error


def _validation(wishes: Wishes, examples: int) -> float:
    if wishes.validation is not None:
        return wishes.validation
    return 0.05 if examples >= 200 else 0.1 if examples >= 40 else 0.0
