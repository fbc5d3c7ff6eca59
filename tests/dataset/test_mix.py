"""Datasets that agents share: exact shares and strata, no example twice, the same bytes on every machine."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gitune.dataset import build_dataset, write_dataset
from gitune.dataset.build import Assembled, assemble
from gitune.dataset.rules import DEFAULTS
from gitune.spec import load_agents
from tests.banking77 import FOLDER, available
from tests.conftest import REPOSITORY, Repository, agent_yaml, jsonl

OFF: dict[str, str] = {**dict.fromkeys(DEFAULTS, "off"), "exact-duplicate": "error"}
KINDS = ("red", "green", "blue")


def row(agent: str, number: int, kind: str | None = None) -> dict[str, Any]:
    content = (("user", f"{agent} asks {number}"), ("assistant", f"answer {number}"))
    messages = [{"role": role, "content": text} for role, text in content]
    return {"messages": messages, "kind": kind or KINDS[number % 7 % 3]}


def add(repository: Repository, agent: str, rows: list[dict[str, Any]], **dataset: Any) -> None:
    spec = {"sources": [{"path": "data/train.jsonl"}], "validation": 0.0, "rules": OFF, **dataset}
    repository.add_agent(agent, agent_yaml(dataset=spec), rows)


def assembled(repository: Repository, agent: str) -> Assembled:
    return assemble(next(spec for spec in load_agents(repository.root) if spec.name == agent), repository.root)


def chosen(repository: Repository, agent: str) -> set[str]:
    found = assembled(repository, agent)
    assert found.problems == ()
    lines = [example.canonical() for example in found.examples]
    assert len(lines) == len(set(lines))
    return set(lines)


def taken(found: Assembled) -> dict[str, int]:
    return {share.agent: share.taken for share in found.choice.shares}


def test_a_mix_keeps_shares_and_strata(repository: Repository) -> None:
    mix = {"support": 0.6, "qa": 0.3, "legal": 0.1}
    for agent in mix:
        add(repository, agent, [row(agent, i) for i in range(700)], examples=101, stratify_by="kind", mix=mix)
    found = assembled(repository, "support")
    assert taken(found) == {"support": 61, "qa": 30, "legal": 10}
    assert Counter(example.source for example in found.examples) == taken(found)
    support = next(share for share in found.choice.shares if share.agent == "support")
    assert support.strata == {"red": 26, "green": 18, "blue": 17}  # 3/7, 2/7 and 2/7 of 61; a tie by hash
    assert found.choice.shortfalls == ()


@pytest.mark.parametrize("examples", [10, 25, 60, 150])
def test_what_stands_twice_changes_no_sample(repository: Repository, examples: int) -> None:
    rules = {**OFF, "exact-duplicate": "drop"}
    rows = [row("qa", i) for i in range(2_000)]
    add(repository, "qa", rows, examples=examples, rules=rules)
    once = chosen(repository, "qa")
    add(repository, "qa", [*rows, *rows[::4]], examples=examples, rules=rules)
    assert chosen(repository, "qa") == once


def test_agents_may_mix_each_other(repository: Repository) -> None:
    """A mix takes of sources, never of a mix: there is nothing that could go in a circle."""
    add(repository, "aa", [row("aa", i) for i in range(50)], mix={"bb": 1.0}, examples=5)
    add(repository, "bb", [row("bb", i) for i in range(50)], mix={"aa": 1.0}, examples=5)
    assert {example.source for example in assembled(repository, "aa").examples} == {"bb"}
    assert {example.source for example in assembled(repository, "bb").examples} == {"aa"}


def test_a_shortfall_is_filled_and_told(repository: Repository) -> None:
    mix = {"aa": 0.5, "bb": 0.25, "cc": 0.25}
    add(repository, "aa", [row("aa", i) for i in range(90)], mix=mix, examples=80)
    add(repository, "bb", [row("bb", i) for i in range(5)])
    add(repository, "cc", [row("cc", i) for i in range(90)])
    found = assembled(repository, "aa")
    assert taken(found) == {"aa": 50, "bb": 5, "cc": 25}
    assert found.choice.shortfalls == ("20 of agent 'bb' wanted, 5 there: the others fill in",)


def test_too_few_of_everything_is_told(repository: Repository) -> None:
    add(repository, "aa", [row("aa", i) for i in range(9)], examples=80)
    found = assembled(repository, "aa")
    assert (len(found.examples), found.choice.shortfalls) == (9, ("80 of agent 'aa' wanted, 9 there",))


def test_without_a_number_a_mix_is_as_large_as_its_shares_allow(repository: Repository) -> None:
    add(repository, "aa", [row("aa", i) for i in range(100)], mix={"aa": 0.75, "bb": 0.25})
    add(repository, "bb", [row("bb", i) for i in range(20)])
    assert taken(assembled(repository, "aa")) == {"aa": 60, "bb": 20}


def test_an_example_of_two_agents_is_taken_once(repository: Repository) -> None:
    both = [row("both", i) for i in range(40)]
    add(repository, "aa", both, mix={"aa": 0.5, "bb": 0.5}, examples=60)
    add(repository, "bb", both + [row("bb", i) for i in range(20)])
    assert len(chosen(repository, "aa")) == 60
    assert taken(assembled(repository, "aa")) == {"aa": 40, "bb": 20}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.randoms(use_true_random=False), seed=st.integers(0, 3))
def test_no_order_matters(repository: Repository, order: random.Random, seed: int) -> None:
    rows = [row("aa", i) for i in range(60)]
    more = [row("bb", i) for i in range(60)]
    options = {"examples": 30, "seed": seed, "stratify_by": "kind"}
    add(repository, "aa", rows, **options, mix={"aa": 0.6, "bb": 0.4})
    add(repository, "bb", more)
    first = chosen(repository, "aa")
    for pile in (rows, more):
        order.shuffle(pile)
    spelled = [dict(sorted(r.items(), reverse=order.random() < 0.5)) for r in rows]
    cut = order.randint(0, 60)
    repository.write("agents/aa/data/a.jsonl", jsonl(spelled[:cut]) or "\n")
    repository.write("agents/aa/data/b.jsonl", jsonl(spelled[cut:]) or "\n")
    files = [f"data/{name}.jsonl" for name, part in (("a", spelled[:cut]), ("b", spelled[cut:])) if part]
    order.shuffle(files)
    sources = [{"path": path} for path in files]
    add(repository, "aa", rows, **options, mix={"bb": 0.4, "aa": 0.6}, sources=sources)
    add(repository, "bb", more)
    assert chosen(repository, "aa") == first


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_percent_more_data_changes_about_one_percent(seed: int, repository: Repository) -> None:
    rows = [row("aa", i, KINDS[i % 3]) for i in range(10_000)]
    options = {"examples": 2_000, "stratify_by": "kind", "seed": seed}
    add(repository, "aa", rows, **options)
    before = chosen(repository, "aa")
    add(repository, "aa", rows + [row("new", i, KINDS[i % 3]) for i in range(100)], **options)
    after = chosen(repository, "aa")
    assert len(after) == 2_000
    assert 4 <= len(after - before) <= 45  # 20 expected; 5 standard deviations


def test_a_larger_sample_holds_the_smaller(repository: Repository) -> None:
    rows = [row("aa", i) for i in range(300)]
    add(repository, "aa", rows, examples=50)
    small = chosen(repository, "aa")
    add(repository, "aa", rows, examples=100)
    assert small < chosen(repository, "aa")


def test_rules_judge_what_is_chosen_and_the_dropped_are_replaced(repository: Repository) -> None:
    rows = [row("aa", i) for i in range(100)]
    for i in range(0, 100, 2):
        rows[i]["messages"][0]["content"] += " from jane.doe@gmail.com"
    rules = {**OFF, "email": "drop"}
    add(repository, "aa", rows, examples=50, rules=rules)
    found = assembled(repository, "aa")
    assert (len(found.examples), found.problems, found.choice.shortfalls) == (50, (), ())
    assert not any("@" in example.canonical() for example in found.examples)
    dropped = [finding for finding in found.findings if finding.dropped]
    assert len({finding.line for finding in dropped}) == len(dropped) > 0
    add(repository, "aa", rows, examples=60, rules=rules)
    found = assembled(repository, "aa")
    assert found.choice.shortfalls == ("60 of agent 'aa' wanted, 50 there",)


def test_duplicates_are_dropped_and_each_is_told(repository: Repository) -> None:
    rows = [row("aa", i) for i in range(20)]
    add(repository, "aa", rows + rows[:3], rules={**OFF, "exact-duplicate": "drop"})
    found = assembled(repository, "aa")
    assert (len(found.examples), found.problems) == (20, ())
    assert [finding.line for finding in found.findings if finding.dropped] == [21, 22, 23]
    add(repository, "aa", rows + rows[:3], rules={**OFF, "exact-duplicate": "off"})
    assert len(assembled(repository, "aa").examples) == 23


# --- real data, as in the status report ------------------------------------------------------------------------------

BANKING = {"user": "text", "assistant": "category", "system": "Name the intent."}
MATHS = {"user": "question", "assistant": "answer"}


def _real_agents(repository: Repository) -> None:
    for agent, file, columns, other in (
        ("banking", "banking77_train.csv", BANKING, "maths"),
        ("maths", "gsm8k_train.jsonl", MATHS, "banking"),
    ):
        spec = agent_yaml(
            dataset={
                "sources": [{"path": f"data/{file}", "columns": columns}],
                "validation": 0.05,
                "examples": 5_000,
                "stratify_by": "assistant",
                "mix": {agent: 0.8, other: 0.2},
                "rules": {**OFF, "exact-duplicate": "drop"},
            }
        )
        repository.add_agent(agent, spec)
        repository.write(f"agents/{agent}/data/{file}", (FOLDER / file).read_bytes())


@pytest.mark.skipif(not available(), reason="Banking77 and GSM8K are not beside this repository")
def test_real_data_is_the_same_in_every_process(repository: Repository) -> None:
    _real_agents(repository)
    program = """
import sys, hashlib
from pathlib import Path
from gitune.dataset import build_dataset, write_dataset
from gitune.spec import load_agents
root = Path(sys.argv[1])
for spec in load_agents(root):
    folder = write_dataset(spec, build_dataset(spec, root), root)
    for file in sorted(folder.iterdir()):
        print(spec.name, folder.name, file.name, hashlib.sha256(file.read_bytes()).hexdigest())
"""
    said = []
    for seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(REPOSITORY / "infra")}
        command = [sys.executable, "-c", program, str(repository.root)]
        said.append(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
        subprocess.run(["rm", "-r", str(repository.root / ".gitune")], check=True)
    assert said[0] == said[1]
    assert said[0].count("\n") >= 6


@pytest.mark.skipif(not available(), reason="Banking77 and GSM8K are not beside this repository")
def test_real_data_keeps_its_shares(repository: Repository) -> None:
    _real_agents(repository)
    for spec in load_agents(repository.root):
        dataset = build_dataset(spec, repository.root)
        folder = write_dataset(spec, dataset, repository.root)
        assert (len(dataset.train), len(dataset.validation)) == (4_750, 250)
        manifest = json.loads(Path(folder / "dataset.json").read_text(encoding="utf-8"))
        shares = {share["agent"]: share["taken"] for share in manifest["shares"]}
        assert shares == {spec.name: 4_000, ({"banking", "maths"} - {spec.name}).pop(): 1_000}
        banking = next(share for share in manifest["shares"] if share["agent"] == "banking")
        assert len(banking["strata"]) == 77
