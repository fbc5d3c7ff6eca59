"""`gitune dataset stats`: bars that fit the terminal, plain text elsewhere, numbers that are those of --json."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from gitune.dataset.build import build_dataset
from gitune.dataset.stats import count_stats
from gitune.dataset.tokens import EstimatedTokens
from gitune.report.dataset import print_stats
from gitune.report.text import bar, largest
from gitune.spec import load_agents
from tests.conftest import Repository, Result, agent_yaml, example, jsonl

Gitune = Callable[..., Result]
LABELS = ["refund", "日本語のとても長いカテゴリーの名前です" * 3, "\x1b[31mred", "[bold]markup[/bold]", "rare"]
ROWS = [example(f"question number {i} of many " + "very " * (i % 40), LABELS[min(i % 9, 3)]) for i in range(180)]
ROWS[1] = example("just this one", "rare")


@pytest.fixture
def agent(repository: Repository) -> Repository:
    sources = [{"path": "data/train.jsonl"}, {"path": "data/a/rather/deep/folder/with/more/examples.jsonl"}]
    rules = {"near-duplicate": "off", "encoding": "off"}
    repository.add_agent("qa", agent_yaml(dataset={"sources": sources, "rules": rules}), examples=ROWS[:150])
    repository.write("agents/qa/data/a/rather/deep/folder/with/more/examples.jsonl", jsonl(ROWS[150:]))
    return repository


def drawn(repository: Repository, width: int, **console: Any) -> str:
    (spec,) = load_agents(repository.root)
    dataset, out = build_dataset(spec, repository.root), io.StringIO()
    stats = count_stats(dataset.assembled.examples, EstimatedTokens())
    print_stats("qa", dataset, stats, Console(file=out, width=width, highlight=False, soft_wrap=True, **console))
    return out.getvalue()


def test_text_says_what_json_says(agent: Repository, gitune: Gitune) -> None:
    facts = json.loads(gitune("dataset", "stats", "qa", "--json").out)
    assert set(facts) == {
        *("examples", "tokens", "p50", "p95", "longest", "histogram", "tokenizer", "estimated"),
        *("categories", "languages", "turns"),
    }
    text = gitune("dataset", "stats", "qa").out
    assert text.startswith(f"qa: 180 examples, {facts['tokens']:,} tokens")
    for bucket in facts["histogram"]:
        assert re.search(rf"^ *{bucket['up_to']:,}  #* *  +{bucket['examples']:,} ", text, re.MULTILINE), bucket
    for title in ("tokens, up to", "sources", "categories", "languages"):
        assert f"\n\n{title}" in text
    assert re.search(r"^agents/qa/data/train.jsonl +#+ +150 +83\.3%$", text, re.MULTILINE)
    assert re.search(r"^rare +# +1 +0\.6%$", text, re.MULTILINE)


def test_not_a_terminal_is_plain(agent: Repository, gitune: Gitune) -> None:
    text = gitune("dataset", "stats", "qa").out
    assert "\x1b" not in text
    assert "█" not in text
    assert "[bold]markup[/bold]" in text
    assert max(map(cell_len, text.splitlines())) <= 80


@pytest.mark.parametrize("width", [30, 40, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int, agent: Repository) -> None:
    rows = [line for line in drawn(agent, width).splitlines() if line.endswith("%")]
    assert max(map(cell_len, rows)) <= width
    assert len(rows) > 8


def test_a_terminal_has_colours_unless_it_wants_none(agent: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = {"force_terminal": True, "color_system": "standard", "_environ": {"TERM": "xterm"}}
    coloured = drawn(agent, 80, **terminal)
    assert "\x1b[36m" in coloured
    assert "\x1b[31m" not in coloured  # a colour of the data's
    monkeypatch.setenv("NO_COLOR", "1")
    calm = drawn(agent, 80, **{**terminal, "_environ": {"TERM": "xterm", "NO_COLOR": "1"}})
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", calm)


def test_bars_are_in_proportion_and_none_is_lost() -> None:
    assert [len(bar(count, 1000, 40)) for count in (1000, 500, 250, 1, 0)] == [40, 20, 10, 1, 0]
    assert bar(0, 0, 40) == ""


def test_what_does_not_fit_is_counted() -> None:
    counts = {f"label {i}": 1 for i in range(25)}
    assert largest(counts)[20:] == [("5 others", 5)]
    assert largest({"a": 1}) == [("a", 1)]
