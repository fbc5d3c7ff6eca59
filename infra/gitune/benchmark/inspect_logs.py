"""What inspect's logs say, read again long after: the numbers of a lock can be had from nothing else."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

from inspect_ai.log import EvalSample, read_eval_log


@dataclass(frozen=True, slots=True)
class Graded:
    """A log of graded answers."""

    cases: int
    missing: int
    """Answers without a score."""
    accuracy: float | None
    """Mean score, 0 to 1; None: no answer has one."""


def read_graded(log: Path) -> Graded:
    """Raises what zip files and inspect raise for a file that is no log."""
    samples = read_eval_log(str(log)).samples or []
    values = [value for sample in samples if (value := _value(sample)) is not None]
    accuracy = statistics.fmean(values) if values else None
    return Graded(len({sample.id for sample in samples}), len(samples) - len(values), accuracy)


def read_latency(log: Path) -> float | None:
    """Median seconds of an answer; None where none came. Raises as `read_graded`."""
    samples = read_eval_log(str(log)).samples or []
    seconds = [float(sample.output.time or 0.0) for sample in samples if not sample.error]
    return statistics.median(seconds) if seconds else None


def _value(sample: EvalSample) -> float | None:
    if sample.error or not sample.scores:
        return None
    (score,) = sample.scores.values()
    return float(score.value)
