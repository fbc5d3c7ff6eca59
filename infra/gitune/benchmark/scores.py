"""Scores of one model on one set of cases: paid for once, kept beside inspect's log of them."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gitune.files import read_json, write_atomic
from gitune.hashing import canonical_json, sha256


@dataclass(frozen=True, slots=True)
class Score:
    """One answer to one case, and what it is worth, 0 to 1."""

    case_id: str
    answer: str
    value: float
    source: str | None = None
    """Cases that share a source are not independent."""
    epoch: int = 1
    """Which run: every case is asked once in each."""
    verdict: str = ""
    """The judge's own words, where a judge graded."""


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
    """Answers without a score."""
    untimed: tuple[Missing, ...] = ()
    """Answers without a time."""
    log: str = ""
    """inspect's log of the answers, below .gitune."""
    latency_log: str = ""

    @property
    def missing(self) -> tuple[Missing, ...]:
        """All that is to be asked again."""
        return (*self.errors, *self.untimed)

    @property
    def logs(self) -> tuple[str, ...]:
        return tuple(log for log in (self.log, self.latency_log) if log)

    @property
    def accuracy(self) -> float:
        """Mean score, 0 to 1: the share of right answers where a score is 0 or 1."""
        return statistics.fmean(score.value for score in self.scores) if self.scores else math.nan

    @property
    def latency(self) -> float:
        """Median seconds per answer."""
        return statistics.median(self.latencies) if self.latencies else math.nan

    def by_case(self) -> Mapping[str, Score]:
        """One score for each case: the mean over its runs, with the answer of the first."""
        found: dict[str, list[Score]] = {}
        for score in sorted(self.scores, key=lambda score: score.epoch):
            found.setdefault(score.case_id, []).append(score)
        return {case: replace(runs[0], value=_mean(runs)) for case, runs in found.items()}

    def by_run(self) -> Mapping[int, float]:
        """The mean score of each run."""
        runs: dict[int, list[Score]] = {}
        for score in self.scores:
            runs.setdefault(score.epoch, []).append(score)
        return {epoch: _mean(scores) for epoch, scores in sorted(runs.items())}


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A model that could not be asked, and why."""

    reason: str


def scores_file(folder: Path, model: str, fingerprint: str, settings: Mapping[str, Any]) -> Path:
    """Where the scores are kept: named by everything that decides them."""
    return folder / f"{sha256([model, fingerprint, canonical_json(dict(settings))])}.json"


def load_scores(path: Path) -> Scores | None:
    """What `save_scores` kept; None when there is nothing."""
    data = read_json(path)
    if data is None:
        return None
    scores = tuple(Score(**score) for score in data["scores"])
    return Scores(data["model_id"], scores, tuple(data["latencies"]), log=data["log"], latency_log=data["latency_log"])


def save_scores(path: Path, scores: Scores) -> None:
    """Keep the scores for the next time. Those with errors are not kept: what failed is asked again."""
    assert not scores.missing
    write_atomic(path, json.dumps(asdict(scores), indent=1, ensure_ascii=False) + "\n")


def _mean(scores: Sequence[Score]) -> float:
    return statistics.fmean(score.value for score in scores)
