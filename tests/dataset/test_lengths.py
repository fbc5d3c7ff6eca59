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
NOWHERE = Path("/nonexistent")


def chat(text: str) -> Example:
    return Example((Message("user", text), Message("assistant", "a")), "train.jsonl", 1)


@pytest.mark.skipif(HERE is None, reason="the base model is not unpacked on this machine")
@settings(deadline=None, max_examples=50)  # each reads the tokenizer anew
@given(st.text(max_size=400))
def test_bytes_are_never_fewer_than_tokens(text: str) -> None:
    assert HERE is not None
    true = token_counter(DEFAULT_BASE_MODEL, HERE).count([chat(text)])[0]
    (most,) = counting(Limit(10**9, DEFAULT_BASE_MODEL), exact=True, cache=NOWHERE)([chat(text)]).tokens
    assert most >= true


def test_what_surely_fits_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("counted")

    monkeypatch.setattr("gitune.dataset.lengths.token_counter", never)
    counts = counting(Limit(1024, "no-such-model"), exact=True, cache=NOWHERE)([chat("x" * 900)])
    assert counts.tokens == [900 + 1 + 48]


def test_an_estimate_accuses_nobody_wrongly_and_drops_nothing() -> None:
    examples = [chat("word " * 300)]  # some 300 tokens; the estimate says 380
    limit = Limit(300, "meta-llama/unknown")
    counts = counting(limit, exact=False, cache=NOWHERE)(examples)
    assert counts.tokens[0] < 300
    assert counts.at_least
    with pytest.raises(UserError, match="tokenizer of meta-llama/unknown is not on this machine"):
        counting(limit, exact=True, cache=NOWHERE)(examples)


@pytest.mark.skipif(HERE is None, reason="the base model is not unpacked on this machine")
def test_what_was_counted_is_not_counted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples, limit = [chat("word " * 300), chat("short")], Limit(64, DEFAULT_BASE_MODEL)
    first = counting(limit, exact=True, cache=tmp_path)(examples)
    assert first.by == f"counted by {DEFAULT_BASE_MODEL}"
    (kept,) = tmp_path.iterdir()
    monkeypatch.setattr("gitune.dataset.tokens.FolderTokens.count", None)
    assert counting(limit, exact=True, cache=tmp_path)(examples) == first
    monkeypatch.undo()
    kept.write_text("[1, ")  # cut short: counted anew
    assert counting(limit, exact=True, cache=tmp_path)(examples) == first
    (tmp_path / "file").touch()
    assert counting(limit, exact=True, cache=tmp_path / "file")(examples) == first  # cannot be kept: that is all


def test_the_bytes_of_tools_say_nothing() -> None:
    tools = '[{"function":{"name":"find"},"type":"function"}]'
    short = Example((Message("user", "a"), Message("assistant", "b")), "train.jsonl", 1, tools=tools)
    assert counting(Limit(1024, "no-such-model"), exact=False, cache=NOWHERE)([short]).at_least  # it was counted


def test_a_long_example_stops_the_plan(repository: Repository, gitune: Callable[..., Result]) -> None:
    training = [{"provider": "local", "hyperparameters": {"max_length": 64}}]
    rows = [example("short", "a"), example("long " * 400, "b"), *(example(f"more {i}", "c") for i in range(9))]
    repository.add_agent("qa", agent_yaml(training=training), rows)
    (spec,) = load_agents(repository.root)
    assert length_limit(spec) == Limit(64, DEFAULT_BASE_MODEL)
    result = gitune("validate")
    assert result.code == 1
    assert "agents/qa/data/train.jsonl:2: " in result.err
    assert "tokens, more than the 64 that fit; counted by smollm2-135m-instruct" in result.err
    assert not (Path(repository.root) / ".gitune" / "datasets").exists()


def test_what_openai_would_cut_is_found(repository: Repository, gitune: Callable[..., Result]) -> None:
    training = [{"provider": "openai", "base_model": "gpt-3.5-turbo-0613"}]
    rows = [example("long " * 9000, "b"), *(example(f"more {i}", "c") for i in range(12))]
    repository.add_agent("qa", agent_yaml(training=training), rows)
    said = gitune("validate").err
    assert "agents/qa/data/train.jsonl:1: at least " in said
    assert "tokens, more than the 4,096 that fit; estimated from digits, signs and bytes" in said


def test_unknown_is_not_checked(repository: Repository) -> None:
    repository.add_agent("qa", agent_yaml(training=[{"provider": "openai", "base_model": "our-own"}]))
    (spec,) = load_agents(repository.root)
    assert length_limit(spec) is None
