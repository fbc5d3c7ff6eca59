"""Weights of examples: refused, or applied exactly, by hash, and never to what is held back."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitune.dataset import build_dataset
from gitune.dataset.weights import copies, repeated
from gitune.errors import InvalidInput
from gitune.spec import load_agents
from tests.conftest import Repository, agent_yaml, example

WEIGHTS = st.dictionaries(st.text(min_size=1, max_size=5), st.floats(0.001, 20), max_size=30)


@given(WEIGHTS, st.integers(0, 3))
def test_each_line_stands_its_weight_rounded_up_or_down(weights: dict[str, float], seed: int) -> None:
    lines = sorted(weights)
    counts = Counter(repeated(lines, weights, seed))
    assert all(abs(counts[line] - weight) < 1 for line, weight in weights.items())
    assert Counter(repeated(lines[::-1], weights, seed)) == counts


@given(WEIGHTS, st.text(min_size=6), st.floats(0.001, 20))
def test_another_example_changes_no_other(weights: dict[str, float], line: str, weight: float) -> None:
    before = Counter(repeated(sorted(weights), weights, 0))
    after = Counter(repeated([*sorted(weights), line], {**weights, line: weight}, 0))
    del after[line]
    assert after == before


def test_the_total_is_the_sum_of_the_weights() -> None:
    counts = [copies(f"question {i}", 2.3, 0) for i in range(2000)]
    assert set(counts) == {2, 3}
    assert abs(sum(counts) - 4600) < 4 * (2000 * 0.3 * 0.7) ** 0.5  # four standard deviations
    assert counts != [copies(f"question {i}", 2.3, 1) for i in range(2000)]


def _weighted(repository: Repository, *, weights: str | None, validation: float = 0.25) -> None:
    rows = [{**example(f"message {i}", "a"), "weight": [1, 0, 3, 0.5][i % 4]} for i in range(24)]
    dataset = {"sources": [{"path": "data/train.jsonl"}], "validation": validation}
    repository.add_agent("ww", agent_yaml(dataset={**dataset, **({"weights": weights} if weights else {})}), rows)


def test_sampled_weights_are_in_the_dataset_and_its_fingerprint(repository: Repository) -> None:
    _weighted(repository, weights="sample")
    (spec,) = load_agents(repository.root)
    built = build_dataset(spec, repository.root)
    assert not any('"weight"' in line for line in (*built.train, *built.validation))
    assert len(set(built.validation)) == len(built.validation) == round(18 * 0.25)  # six of 24 have weight 0
    counts = Counter(line.split("message ")[1].split('"')[0] for line in built.train)
    assert all(count == {0: 1, 2: 3}.get(int(number) % 4, 1) for number, count in counts.items())
    assert not any(int(number) % 4 == 1 for number in counts)
    assert build_dataset(spec, repository.root) == built
    _weighted(repository, weights="sample", validation=0.0)
    (other,) = load_agents(repository.root)
    assert build_dataset(other, repository.root).fingerprint != built.fingerprint


def test_weights_are_refused_unless_declared(repository: Repository) -> None:
    _weighted(repository, weights=None)
    (spec,) = load_agents(repository.root)
    with pytest.raises(InvalidInput) as raised:
        build_dataset(spec, repository.root)
    first = raised.value.problems[0]
    assert (first.file, first.line) == ("agents/ww/data/train.jsonl", 2)
    assert "weights: sample" in (first.hint or "")
    assert len(raised.value.problems) == 18


def test_weights_that_leave_nothing_are_an_error(repository: Repository) -> None:
    rows = [{**example(f"message {i}", "a"), "weight": 0} for i in range(3)]
    dataset = {"sources": [{"path": "data/train.jsonl"}], "weights": "sample"}
    repository.add_agent("ww", agent_yaml(dataset=dataset), rows)
    (spec,) = load_agents(repository.root)
    with pytest.raises(InvalidInput, match="no example is left"):
        build_dataset(spec, repository.root)
