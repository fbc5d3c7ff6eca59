"""Answers become scores; scores of one model on one set of cases are paid for once."""

from __future__ import annotations

import json
import math
import statistics
import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from gitune.benchmark.cases import Case
from gitune.files import read_json, write_atomic
from gitune.hashing import canonical_json, sha256
from gitune.spec import BenchmarkSpec


@dataclass(frozen=True, slots=True)
class Score:
    """One case's answer. `value` is 1 when it is right, else 0."""

    case_id: str
    answer: str
    value: float
    source: str | None = None
    """Cases that share a source are not independent."""
    epoch: int = 1
    """Which run: every case is asked once in each."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A case without a score: the call failed, or the judge gave no grade. Neither right nor wrong."""

    case_id: str
    epoch: int
    reason: str


@dataclass(frozen=True, slots=True)
class Scores:
    """One model on all cases. `latencies` are seconds per answer, asked one at a time."""

    model_id: str
    scores: tuple[Score, ...]
    latencies: tuple[float, ...]
    errors: tuple[Missing, ...] = ()

    @property
    def accuracy(self) -> float:
        """Share of right answers, 0 to 1."""
        return statistics.fmean(score.value for score in self.scores)

    @property
    def latency(self) -> float:
        """Median seconds per answer."""
        return statistics.median(self.latencies) if self.latencies else math.nan

    def by_case(self) -> Mapping[str, Score]:
        return {score.case_id: score for score in self.scores}


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A model that could not be asked, and why."""

    reason: str


def score_answers(cases: Sequence[Case], answers: Sequence[str], scorer: str) -> tuple[Score, ...]:
    """Score each answer against its case's target."""
    same = {"exact": _exact, "normalised": _normalised}[scorer]
    return tuple(
        Score(case.case_id, answer, float(same(answer, case.target)))
        for case, answer in zip(cases, answers, strict=True)
    )


def scores_file(folder: Path, model_id: str, fingerprint: str, spec: BenchmarkSpec) -> Path:
    """Where the scores are kept: named by everything that decides them."""
    settings = canonical_json({"scorer": spec.scorer, "max_new_tokens": spec.max_new_tokens, "n": spec.latency_cases})
    return folder / f"{sha256([model_id, fingerprint, settings])}.json"


def load_scores(path: Path) -> Scores | None:
    """What `save_scores` kept; None when there is nothing."""
    data = read_json(path)
    if data is None:
        return None
    scores = tuple(Score(**score) for score in data["scores"])
    return Scores(data["model_id"], scores, tuple(data["latencies"]))


def save_scores(path: Path, scores: Scores) -> None:
    """Keep the scores for the next time."""
    write_atomic(path, json.dumps(asdict(scores), indent=1, ensure_ascii=False) + "\n")


def _exact(answer: str, target: str) -> bool:
    return answer.strip() == target.strip()


def _normalised(answer: str, target: str) -> bool:
    def normal(text: str) -> str:
        return " ".join(text.casefold().split()).rstrip(string.punctuation).strip()

    return normal(answer) == normal(target)
