"""The end of `up` says what got worse, with both answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitune.benchmark.gate import Contest, judge
from gitune.benchmark.run import Evidence
from gitune.benchmark.scores import Score, Scores
from gitune.outcome import AgentOutcome
from gitune.promote import Promotion
from gitune.report.outcomes import print_outcomes
from gitune.spec import AgentSpec, BenchmarkSpec, DatasetSpec, GateSpec, Source


def test_cases_that_got_worse_are_listed_with_both_answers(capsys: pytest.CaptureFixture[str]) -> None:
    base = Scores("base", tuple(Score(f"c{n}", "the right word", 1.0) for n in range(40)), (0.1,))
    new = Scores("new", tuple(Score(f"c{n}", "a wrong word", float(n > 4)) for n in range(40)), (0.1,))
    contest = Contest(GateSpec(), new, base)
    promotion = Promotion(Evidence(40, "", contest, None), judge(contest.gate, new, base))
    spec = AgentSpec(
        name="support",
        folder=Path("agents/support"),
        alias="support",
        dataset=DatasetSpec(sources=(Source(path="train.jsonl"),)),
        benchmark=BenchmarkSpec(cases="cases.jsonl"),
    )
    outcome = AgentOutcome(spec, None, promotion, None, served=False, deployed=False, changes=())
    print_outcomes([outcome], "gitune")
    said = capsys.readouterr().out
    assert 'support: worse: case c0: 1 → 0, "the right word" → "a wrong word"' in said
    assert said.count("worse: case") == 3
    assert "2 more cases are worse; all of them: --json" in said
