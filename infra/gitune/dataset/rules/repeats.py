"""The same example twice, nearly the same, or the same question with another answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from gitune.dataset.chat import Example
from gitune.dataset.rules.base import Context, Hit
from gitune.dataset.rules.near import NearIndex, sketches
from gitune.dataset.rules.text import key, normal, place, said, system, turns


def exact_duplicate(examples: Sequence[Example], _context: Context) -> Iterator[Hit]:
    """Every example whose conversation stands elsewhere too; the first of those with the largest weight is kept."""
    best: dict[str, int] = {}
    conversations = [_conversation(example) for example in examples]
    for index, conversation in enumerate(conversations):
        before = best.setdefault(conversation, index)
        if examples[index].weight > examples[before].weight:
            best[conversation] = index
    for index, conversation in enumerate(conversations):
        if best[conversation] != index:
            message = f"the same example as {place(examples[best[conversation]])}"
            yield Hit(index, message, "keep one of them")


def near_duplicate(examples: Sequence[Example], context: Context) -> Iterator[Hit]:
    """Every example near one that is kept; of each group the one with the smallest hash is kept.

    A group has one example in the index, however large it is, so a million copies of a template cost a million
    look-ups and not a million million comparisons. Examples with different system messages are never near.
    """
    order = sorted(range(len(examples)), key=lambda i: key(examples[i]))
    texts = [turns(examples[i]) for i in order]
    index = NearIndex(context.settings.near)
    hits = []
    exact: dict[tuple[str, str], int] = {}
    for i, text, sketch in zip(order, texts, sketches(texts), strict=True):
        group = system(examples[i])
        other = exact.get((group, text))
        other = index.find(sketch, text, group) if other is None else other
        if other is None:
            index.add(i, sketch, text, group)
            exact[group, text] = i
        elif _conversation(examples[i]) != _conversation(examples[other]):  # exact-duplicate says that
            message = f"nearly the same example as {place(examples[other])}"
            hits.append(Hit(i, message, "keep one of them, or let them differ in more than a word"))
    yield from sorted(hits, key=lambda hit: hit.index)


def contradiction(examples: Sequence[Example], _context: Context) -> Iterator[Hit]:
    """Examples that answer the same question differently: the fewer, or all of them where no answer has a majority."""
    answers: dict[tuple[str, ...], list[int]] = {}
    for index, example in enumerate(examples):
        question = (example.tools, *(f"{m.role} {normal(said(m))}" for m in example.prompt))
        answers.setdefault(question, []).append(index)
    hits = []
    for indexes in answers.values():
        if len(indexes) == 1:
            continue
        answered = {i: normal(said(examples[i].messages[-1])) for i in indexes}
        counts = Counter(answered.values())
        if len(counts) == 1:
            continue
        answer, count = counts.most_common(1)[0]
        right = answer if 2 * count > len(indexes) else None
        one = next(i for i in indexes if right in (None, answered[i]))
        other = next(i for i in indexes if answered[i] != answered[one])
        for i in indexes:
            if answered[i] != right:
                against = one if answered[i] != answered[one] else other
                message = f"another answer to the same question as {place(examples[against])}"
                hits.append(Hit(i, message, "decide on one answer"))
    yield from sorted(hits, key=lambda hit: hit.index)


def _conversation(example: Example) -> str:
    """The canonical line without the weight, which does not make it another conversation."""
    return example.canonical() if example.weight == 1.0 else replace(example, weight=1.0).canonical()
