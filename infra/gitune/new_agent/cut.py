"""A first benchmark, cut off the examples: what it asks is not trained on. Pure, and the same on every machine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gitune.benchmark.cases import Case
from gitune.benchmark.scorers import check_case
from gitune.dataset.chat import Example
from gitune.dataset.rules.base import Context, Rule, Settings
from gitune.dataset.rules.leaks import leak, near_leak
from gitune.dataset.rules.text import asked, normal
from gitune.dataset.sampling import allocate
from gitune.hashing import sha256
from gitune.scorer_spec import Scorer

MOST_CASES = 300
ENOUGH_CASES = 60
FEWEST_CASES = 30
"""What a gate wants to see: gate.min_cases."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The examples in two, and what is in neither."""

    cases: tuple[Case, ...]
    origins: tuple[Example, ...]
    """The example behind each case."""
    training: tuple[Example, ...]
    repeats: int
    """The same conversation again: kept once."""
    near: int
    """Left out of the training: asks what a case asks, or nearly so."""


def propose_count(questions: int) -> int:
    """A fifth, at least 60 and at most 300; a third of what is small."""
    return max(min(MOST_CASES, max(ENOUGH_CASES, questions // 5), questions // 3), 1)


def count_questions(examples: Sequence[Example]) -> int:
    """Distinct ones, up to case, spaces and spelling of letters."""
    return len({asked(example.messages) for example in examples})


def cut_cases(examples: Sequence[Example], count: int, scorer: Scorer, *, by_answer: bool) -> Cut:
    """Take `count` questions out, or as many as there are to take; by_answer keeps the shares of the answers.

    A question is taken with all examples that ask it. One that is answered in two ways is not: nobody knows which is
    right. Of each answer, one question stays in the training.
    """
    unique = list({example.canonical(): example for example in reversed(examples)}.values())[::-1]
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in unique:
        groups[asked(example.messages)].append(example)
    strata: dict[str, list[str]] = defaultdict(list)
    for question, members in groups.items():
        if _usable(members, scorer):
            strata[normal(members[0].messages[-1].content) if by_answer else ""].append(question)
    chosen = _chosen(strata, count)
    origins = tuple(members[0] for question, members in groups.items() if question in chosen)
    cases = tuple(_case(number, example) for number, example in enumerate(origins, start=1))
    left, dropped = _without(leak, unique, cases)
    training, nearly = _without(near_leak, left, cases)
    return Cut(cases, origins, tuple(training), len(examples) - len(unique), dropped - len(cases) + nearly)


def _usable(members: Sequence[Example], scorer: Scorer) -> bool:
    first = members[0]
    alone = len({normal(example.messages[-1].content) for example in members}) == 1
    plain = not first.tools and first.prompt[-1].role == "user" and bool(first.messages[-1].content.strip())
    return alone and plain and check_case(scorer, _case(1, first)) is None


def _chosen(strata: Mapping[str, Sequence[str]], count: int) -> set[str]:
    sizes = {name: len(questions) for name, questions in strata.items()}
    counts = allocate(count, sizes, {name: size - 1 for name, size in sizes.items()})
    return {question for name, questions in strata.items() for question in sorted(questions, key=_hash)[: counts[name]]}


def _hash(question: str) -> str:
    return sha256(["gitune new", question])


def _case(number: int, example: Example) -> Case:
    return Case(f"case-{number:03}", example.prompt, example.messages[-1].content, number)


def _without(rule: Rule, examples: Sequence[Example], cases: Sequence[Case]) -> tuple[list[Example], int]:
    gone = {hit.index for hit in rule(examples, Context(cases, Settings()))}
    return [example for index, example in enumerate(examples) if index not in gone], len(gone)
