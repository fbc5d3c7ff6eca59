"""What an answer is worth, 0 to 1. Pure; the judge, who must be asked, is in judge.py.

`f1` and `rouge_l` count words as SQuAD's script does (Rajpurkar et al., EMNLP 2016, arXiv:1606.05250), but keep English
articles, since agents speak other languages too. `rouge_l` is the F1 of the longest common subsequence (Lin, "ROUGE: A
Package for Automatic Evaluation of Summaries", 2004, with beta = 1).
"""

from __future__ import annotations

import json
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gitune.scorer_spec import JsonOptions, NumberOptions, Scorer

if TYPE_CHECKING:
    from gitune.benchmark.cases import Case

Grade = Callable[[str, "Case"], float]
"""(answer, case) → 0 to 1"""

_NUMBER = re.compile(r"[-+\u2212]?(?:\d{1,3}(?:[,\s]\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?|[-+\u2212]?\.\d+")
_FENCED = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)


def grader(scorer: Scorer) -> Grade | None:
    """The built-in scorer; None for a judge or a function of the user's, which need a model or a module."""
    match scorer.kind:
        case "exact":
            return lambda answer, case: float(answer.strip() == case.target.strip())
        case "normalised":
            return lambda answer, case: float(_normal(answer) == _normal(case.target))
        case "number":
            return _number(scorer.number or NumberOptions())
        case "json_fields":
            return _json_fields(scorer.json_fields or JsonOptions())
        case "facts":
            return lambda answer, case: float(all(fact_pattern(fact).search(_spaced(answer)) for fact in case.facts))
        case "f1":
            return lambda answer, case: _f1(_words(answer), _words(case.target))
        case "rouge_l":
            return lambda answer, case: _rouge_l(_words(answer), _words(case.target))
    return None


def check_case(scorer: Scorer, case: Case) -> str | None:
    """Why this scorer can make nothing of the case."""
    if scorer.kind == "facts" and not case.facts:
        return "the scorer 'facts' needs 'facts', a list of what the answer must say"
    if scorer.kind == "number" and last_number(case.target) is None:
        return "the scorer 'number' needs a number in 'target'"
    if scorer.kind == "json_fields":
        return _wrong_object(case, scorer.json_fields or JsonOptions())
    if scorer.kind in ("f1", "rouge_l") and not _words(case.target):
        return f"the scorer '{scorer.kind}' needs words in 'target'"
    return None


def fact_pattern(fact: str) -> re.Pattern[str]:
    """`/.../` is a regular expression, anything else is itself; case and the kind of space do not matter.

    Raises re.error.
    """
    if len(fact) > 2 and fact[0] == fact[-1] == "/":
        return re.compile(fact[1:-1], re.IGNORECASE)
    return re.compile(re.escape(_spaced(fact)), re.IGNORECASE)


def last_number(text: str) -> float | None:
    """The last number in the text; thousands may be grouped as 1,234 or 1 234, and the point is a point."""
    found = _NUMBER.findall(text)
    if not found:
        return None
    return float(re.sub(r"[,\s]", "", found[-1]).replace("\u2212", "-"))


def _number(options: NumberOptions) -> Grade:
    def grade(answer: str, case: Case) -> float:
        said, right = last_number(answer), last_number(case.target)
        if said is None or right is None:
            return 0.0
        allowed = max(options.tolerance, options.relative * abs(right))
        return float(abs(said - right) <= allowed * (1 + 1e-9))  # 0.3 is within 0.1 of 0.2

    return grade


def _json_fields(options: JsonOptions) -> Grade:
    def grade(answer: str, case: Case) -> float:
        said, right = _object(answer), _object(case.target) or {}
        if said is None:
            return 0.0
        fields = _fields(case, options, right)
        return sum(field in said and _same(said[field], right[field]) for field in fields) / len(fields)

    return grade


def _same(said: Any, right: Any) -> bool:
    """Equal JSON: 1 and 1.0 are the same number, 1 and true are not."""
    if isinstance(said, bool) or isinstance(right, bool):
        return said is right
    if isinstance(said, Mapping) and isinstance(right, Mapping):
        return said.keys() == right.keys() and all(_same(said[key], right[key]) for key in right)
    if isinstance(said, list) and isinstance(right, list):
        return len(said) == len(right) and all(map(_same, said, right))
    return bool(said == right)


def _fields(case: Case, options: JsonOptions, right: Mapping[str, Any]) -> Sequence[str]:
    return case.fields or options.fields or tuple(right)


def _wrong_object(case: Case, options: JsonOptions) -> str | None:
    right = _object(case.target)
    if not right:
        return "the scorer 'json_fields' needs a JSON object with fields as 'target'"
    missing = [field for field in _fields(case, options, right) if field not in right]
    return f"'target' has no field '{missing[0]}' to compare" if missing else None


def _object(text: str) -> dict[str, Any] | None:
    """The text as a JSON object, also from a fenced block; None for anything else."""
    fenced = _FENCED.search(text)
    try:
        value = json.loads(fenced[1] if fenced else text)
    except (json.JSONDecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _spaced(text: str) -> str:
    return " ".join(text.split())


def _normal(text: str) -> str:
    return _spaced(text.casefold()).rstrip(string.punctuation).strip()


def _words(text: str) -> list[str]:
    kept = (" " if unicodedata.category(char).startswith("P") else char for char in text.casefold())
    return "".join(kept).split()


def _f1(said: Sequence[str], right: Sequence[str]) -> float:
    shared = sum((Counter(said) & Counter(right)).values())
    return 2 * shared / (len(said) + len(right))


def _rouge_l(said: Sequence[str], right: Sequence[str]) -> float:
    row = [0] * (len(right) + 1)
    for word in said:
        above = row
        row = [0]
        for place, other in enumerate(right):
            row.append(above[place] + 1 if word == other else max(above[place + 1], row[place]))
    return 2 * row[-1] / (len(said) + len(right))
