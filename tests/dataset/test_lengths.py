"""Examples that are too long are found before they are paid for, and counted only where it is in doubt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitune.dataset.chat import Example, Message
from gitune.dataset.lengths import Limit, counting, length_limit
from gitune.dataset.tokens import token_counter
from gitune.errors import UserError
from gitune.spec import load_agents
from gitune.training.base_model import DEFAULT_BASE_MODEL, unpacked_base_model
from tests.conftest import Repository, Result, agent_yaml, example

HERE = unpacked_base_model(DEFAULT_BASE_MODEL)


def chat(text: str) -> Example:
    return Example((Message("user", text), Message("assistant", "a")), "train.jsonl", 1)


@pytest.mark.skipif(HERE is None, reason="the base model is not unpacked on this machine")
@settings(deadline=None, max_examples=50)  # each reads the tokenizer anew
@given(st.text(max_size=400))
def test_bytes_are_never_fewer_than_tokens(text: str) -> None:
    assert HERE is not None
    true = token_counter(DEFAULT_BASE_MODEL, HERE).count([chat(text)])[0]
    (most,) = counting(Limit(10**9, DEFAULT_BASE_MODEL), exact=True)([chat(text)])
    assert most >= true


def test_what_surely_fits_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("counted")

    monkeypatch.setattr("gitune.dataset.lengths.token_counter", never)
    assert counting(Limit(1024, "no-such-model"), exact=True)([chat("x" * 900)]) == [900 + 1 + 48]


def test_an_estimate_accuses_nobody_wrongly_and_drops_nothing() -> None:
    examples = [chat("word " * 300)]  # some 300 tokens; the estimate says 380
    assert counting(Limit(300, "meta-llama/unknown"), exact=False)(examples)[0] < 300
    with pytest.raises(UserError, match="tokenizer of meta-llama/unknown is not on this machine"):
        counting(Limit(300, "meta-llama/unknown"), exact=True)(examples)


def test_a_long_example_stops_the_plan(repository: Repository, gitune: Callable[..., Result]) -> None:
    training = [{"provider": "local", "hyperparameters": {"max_length": 64}}]
    rows = [example("short", "a"), example("long " * 400, "b"), *(example(f"more {i}", "c") for i in range(9))]
    repository.add_agent("qa", agent_yaml(training=training), rows)
    (spec,) = load_agents(repository.root)
    assert length_limit(spec) == Limit(64, DEFAULT_BASE_MODEL)
    result = gitune("validate")
    assert result.code == 1
    assert "agents/qa/data/train.jsonl:2: " in result.err
    assert "tokens, more than the 64 that fit" in result.err
    assert not (Path(repository.root) / ".gitune" / "datasets").exists()
