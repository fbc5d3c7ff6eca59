"""How answers like these are scored, and how long they may be. Pure."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_NUMBER = re.compile(r"[-+\u2212]?[$€£]?\s?\d[\d,\s]*(\.\d+)?\s?%?")
_ENDS_WITH_NUMBER = re.compile(rf"(^|[\s#=:$€£]){_NUMBER.pattern}[.!]?$")
_LABEL_CHARACTERS = 80
_MOST_LABELS = 500
_EACH_LABEL = 3
"""Fewer examples of a label than that, on average, and it is free text."""
_MOST_TOKENS = 4_096


@dataclass(frozen=True, slots=True)
class Scoring:
    """What agent.yaml says of scoring, and why."""

    scorer: str
    labels: int
    """How many classes there are; 0: the answers are no classes."""
    max_new_tokens: int
    max_latency_seconds: int
    description: str
    reason: str


def propose_scoring(answers: Sequence[str]) -> Scoring:
    """The scorer that fits all answers; there is at least one."""
    texts = [answer.strip() for answer in answers]
    longest = max(texts, key=len)
    distinct = len(set(texts))
    if all(_NUMBER.fullmatch(text) for text in texts):
        return _scoring("number", texts, "Answers with a number.", "every answer is a number")
    if all(_is_object(text) for text in texts):
        return _scoring("json_fields", texts, "Answers with a JSON object.", "every answer is a JSON object")
    few = distinct <= _MOST_LABELS and distinct * _EACH_LABEL <= len(texts)
    if few and len(longest) <= _LABEL_CHARACTERS and not any("\n" in text for text in texts):
        reason = f"{distinct} distinct answers, none longer than {len(longest)} characters"
        return _scoring("exact", texts, f"Gives one of {distinct} answers.", reason, distinct)
    if all(_ENDS_WITH_NUMBER.search(text) for text in texts):
        return _scoring("number", texts, "Answers with a number at the end.", "every answer ends with a number")
    words = statistics.median(len(text.split()) for text in texts)
    if words <= 5:
        return _scoring("normalised", texts, "Answers in a few words.", f"free answers of {words:g} words (median)")
    if words <= 40:
        return _scoring("f1", texts, "Answers in a sentence or two.", f"free answers of {words:g} words (median)")
    return _scoring("rouge_l", texts, "Answers at length.", f"free answers of {words:g} words (median)")


def _scoring(scorer: str, texts: Sequence[str], description: str, reason: str, labels: int = 0) -> Scoring:
    tokens = max(_tokens(text) for text in texts)
    seconds = 2 if tokens <= 48 else 10 if tokens <= 256 else 60
    return Scoring(scorer, labels, tokens, seconds, description, reason)


def _tokens(text: str) -> int:
    """Room for the text whatever the tokenizer: two bytes a token, which is half of what English takes."""
    return min(max(16, -(-(len(text.encode()) // 2 + 4) // 8) * 8), _MOST_TOKENS)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
