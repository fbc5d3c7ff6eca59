"""Benchmark cases that stand in the dataset: a case that was trained on measures memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gitune.dataset.chat import Example
from gitune.dataset.rules.base import Context, Hit
from gitune.dataset.rules.near import NearIndex, sketches
from gitune.dataset.rules.text import asked, place

if TYPE_CHECKING:  # cases are made of messages: importing them here would go in a circle
    from gitune.benchmark.cases import Case

_HINT = "remove it from one of them"


def leak(examples: Sequence[Example], context: Context) -> Iterator[Hit]:
    """Examples that ask in the words of a case, up to case, spaces and Unicode spelling."""
    cases = _by_question(context.cases)
    for index, example in enumerate(examples) if cases else ():
        case = cases.get(asked(example.messages))
        if case is not None:
            message = f"case '{case.case_id}' is also a training example ({place(example)})"
            yield Hit(index, message, _HINT, (context.settings.cases_file, case.line))


def near_leak(examples: Sequence[Example], context: Context) -> Iterator[Hit]:
    """Examples that ask nearly in the words of a case."""
    exact = _by_question(context.cases)
    questions = list(exact)
    if not questions:
        return
    index = NearIndex(context.settings.near)
    for number, (question, sketch) in enumerate(zip(questions, sketches(questions), strict=True)):
        index.add(number, sketch, question)
    texts = [asked(example.messages) for example in examples]
    for i, (text, sketch) in enumerate(zip(texts, sketches(texts), strict=True)):
        found = None if text in exact else index.find(sketch, text)  # leak says what is exact
        if found is not None:
            case = exact[questions[found]]
            message = f"case '{case.case_id}' is nearly a training example ({place(examples[i])})"
            yield Hit(i, message, _HINT, (context.settings.cases_file, case.line))


def _by_question(cases: Sequence[Case]) -> dict[str, Case]:
    found: dict[str, Case] = {}
    for case in cases:
        found.setdefault(asked(case.messages), case)
    return found
