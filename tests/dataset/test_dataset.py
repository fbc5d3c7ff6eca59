"""A dataset is its content: neither order nor spelling of the files changes it, any example does."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitune.dataset import build_dataset, write_dataset
from gitune.dataset.build import assemble
from gitune.dataset.split import split_examples
from gitune.spec import load_agents
from tests.conftest import Repository, agent_yaml, example, jsonl

LINES = st.lists(st.text(min_size=1), unique=True, max_size=60)
SHARES = st.floats(0, 0.5)


@given(LINES, SHARES, st.integers(0, 9))
def test_a_split_loses_nothing_and_repeats_nothing(lines: list[str], share: float, seed: int) -> None:
    train, validation = split_examples(lines, share, seed)
    assert sorted([*train, *validation]) == sorted(lines)
    assert len(validation) == min(round(len(lines) * share), max(len(lines) - 1, 0))


@given(LINES, SHARES, st.randoms(use_true_random=False))
def test_the_order_of_lines_does_not_matter(lines: list[str], share: float, order: random.Random) -> None:
    shuffled = list(lines)
    order.shuffle(shuffled)
    assert split_examples(lines, share, 1) == split_examples(shuffled, share, 1)


@given(LINES, SHARES, st.text(min_size=1))
def test_one_more_line_moves_at_most_one_other(lines: list[str], share: float, added: str) -> None:
    before = set(split_examples([line for line in lines if line != added], share, 0)[1])
    after = set(split_examples([*[line for line in lines if line != added], added], share, 0)[1])
    assert len(before ^ after) <= 2  # the added one itself, and one that gives way or joins


def _fingerprint(repository: Repository, examples: list[dict[str, object]]) -> str:
    repository.add_agent("qa", examples=examples)
    (spec,) = load_agents(repository.root)
    return build_dataset(spec, repository.root).fingerprint


def test_the_fingerprint_is_of_the_content(repository: Repository) -> None:
    examples = [example(f"m{i}", "a") for i in range(20)]
    first = _fingerprint(repository, examples)
    assert _fingerprint(repository, examples[::-1]) == first
    reordered = [{"weight": 1, "messages": [dict(reversed(m.items())) for m in e["messages"]]} for e in examples]
    assert _fingerprint(repository, reordered) == first
    assert _fingerprint(repository, [*examples[:-1], example("m19", "b")]) != first


def test_the_same_split_on_every_machine(repository: Repository) -> None:
    # a literal: a change of hashing or of canonical JSON would retrain every agent of every team
    assert _fingerprint(repository, [example("grüß", "a"), example("b", "c")]) == (
        "3aadb2fe5757691ad8e8e369e34cf2081cb0c4b9773f15f4ed40ff9000e4951b"
    )


def test_sources_are_joined(repository: Repository) -> None:
    spec_yaml = agent_yaml(dataset={"sources": [{"path": "data/train.jsonl"}, {"path": "more.jsonl"}], "validation": 0})
    repository.add_agent("qa", spec_yaml, examples=[example("a", "b")])
    repository.write("agents/qa/more.jsonl", jsonl([example("c", "d")]))
    (spec,) = load_agents(repository.root)
    assert len(build_dataset(spec, repository.root).train) == 2


def test_written_files_hold_the_dataset_and_are_written_once(repository: Repository) -> None:
    repository.add_agent("qa")
    (spec,) = load_agents(repository.root)
    dataset = build_dataset(spec, repository.root)
    folder = write_dataset(spec, dataset, repository.root)
    lines = (folder / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert tuple(lines) == dataset.train
    assert set(json.loads(lines[0])) == {"messages"}
    before = _times(folder)
    assert write_dataset(spec, dataset, repository.root) == folder
    assert _times(folder) == before


def test_a_half_deleted_dataset_is_written_again(repository: Repository) -> None:
    repository.add_agent("qa")
    (spec,) = load_agents(repository.root)
    dataset = build_dataset(spec, repository.root)
    folder = write_dataset(spec, dataset, repository.root)
    (folder / "dataset.json").unlink()
    (folder / "train.jsonl").unlink()
    write_dataset(spec, dataset, repository.root)
    assert (folder / "train.jsonl").is_file()


def _times(folder: Path) -> list[int]:
    return [path.stat().st_mtime_ns for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("line", ['{"messages": ' + "[" * 100_000, '{"a": 1e999}', '"\\ud800"', "NaN", "{}" * 2])
def test_odd_json_is_an_error_and_not_a_crash(line: str, repository: Repository) -> None:
    repository.add_agent("qa")
    repository.write("agents/qa/data/train.jsonl", line + "\n")
    (spec,) = load_agents(repository.root)
    assert [problem.line for problem in assemble(spec, repository.root).problems] == [1]
