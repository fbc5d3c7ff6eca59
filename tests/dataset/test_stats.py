"""Facts of a dataset: exact where the tokenizer is at hand, labelled where it is not, and never counted twice."""

from __future__ import annotations

import importlib.util
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitune.dataset.card import CardSource, data_card
from gitune.dataset.chat import Example, Message, ToolCall
from gitune.dataset.rules import Settings, apply
from gitune.dataset.rules.report import summarise
from gitune.dataset.stats import (
    Bucket,
    categories,
    count_stats,
    dataset_stats,
    histogram,
    percentile,
)
from gitune.dataset.tokens import (
    MISTRAL_TOKENIZERS,
    EstimatedTokens,
    FolderTokens,
    MistralTokens,
    token_counter,
)

ESTIMATE = EstimatedTokens()


def chat(user: str, assistant: str = "refund", line: int = 1) -> Example:
    return Example((Message("user", user), Message("assistant", assistant)), "train.jsonl", line)


class Counting:
    """A counter that counts how often it is asked."""

    name, identity, estimated = "words", "words-1", False

    def __init__(self) -> None:
        self.asked = 0

    def count(self, examples: Sequence[Example]) -> list[int]:
        self.asked += 1
        return [sum(len(m.content.split()) for m in example.messages) for example in examples]


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=200), st.floats(0.01, 1))
def test_a_percentile_is_a_value_that_the_share_does_not_exceed(values: list[int], share: float) -> None:
    ordered = sorted(values)
    found = percentile(ordered, share)
    assert found in ordered
    assert sum(value <= found for value in ordered) >= share * len(ordered) - 1e-9
    assert sum(value < found for value in ordered) < share * len(ordered)


@given(st.lists(st.integers(0, 100_000)))
def test_a_histogram_holds_every_value_once(values: list[int]) -> None:
    buckets = histogram(values)
    assert sum(bucket.examples for bucket in buckets) == len(values)
    low = buckets[0].up_to // 2 if buckets else 0
    for bucket in buckets:
        assert bucket.examples == sum((low < v or bucket.up_to == 1) and v <= bucket.up_to for v in values)
        low = bucket.up_to


def test_facts() -> None:
    stats = count_stats([chat("a b c", "yes"), chat("a b", "no"), chat("a", "yes"), chat("a " * 30, "yes")], Counting())
    assert (stats.examples, stats.tokens, stats.p50, stats.p95, stats.longest, stats.turns) == (4, 40, 3, 31, 31, 4)
    assert stats.histogram == (Bucket(2, 1), Bucket(4, 2), Bucket(8, 0), Bucket(16, 0), Bucket(32, 1))
    assert stats.categories == {"yes": 3, "no": 1}
    assert stats.describe_tokens() == "40 tokens, p50 3, p95 31, longest 31"


def test_no_examples() -> None:
    stats = count_stats([], ESTIMATE)
    assert (stats.tokens, stats.p95, stats.histogram, stats.categories, stats.languages) == (0, 0, (), {}, {})


def test_texts_are_no_categories() -> None:
    assert categories([chat(f"q{i}", f"a long answer number {i}") for i in range(20)]) == {}
    assert categories([chat(f"q{i}", f"label_{i % 60}") for i in range(600)]) == {}


def test_languages_are_of_the_same_sample_everywhere() -> None:
    english = [chat(f"My card number {i} was declined this morning, can you help me please?") for i in range(30)]
    german = [chat(f"Meine Karte {i} wurde heute Morgen leider abgelehnt, warum ist das so?") for i in range(10)]
    examples = [*english, *german, chat("hm")]
    stats = count_stats(examples, ESTIMATE)
    assert stats.languages == {"en": 30, "de": 10, "?": 1}
    random.Random(1).shuffle(examples)
    assert count_stats(examples, ESTIMATE) == stats


def test_facts_are_cached_by_content_and_tokenizer(tmp_path: Path) -> None:
    examples, counter = [chat("a b c", "yes"), chat("z", "no"), chat("é", "yes")], Counting()
    first = dataset_stats(examples, counter, fingerprint="f1", cache=tmp_path)
    assert dataset_stats([], counter, fingerprint="f1", cache=tmp_path) == first
    assert list(dataset_stats([], counter, fingerprint="f1", cache=tmp_path).categories) == list(first.categories)
    assert counter.asked == 1
    assert dataset_stats(examples, counter, fingerprint="f2", cache=tmp_path) == first
    assert dataset_stats(examples, ESTIMATE, fingerprint="f1", cache=tmp_path).estimated
    assert counter.asked == 2
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"histogram": 3}'])
def test_a_damaged_cache_is_counted_anew(damage: str, tmp_path: Path) -> None:
    counter = Counting()
    first = dataset_stats([chat("a")], counter, fingerprint="f", cache=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_text(damage)
    assert dataset_stats([chat("a")], counter, fingerprint="f", cache=tmp_path) == first
    assert counter.asked == 2


def test_an_estimate_says_so() -> None:
    counter = token_counter("anthropic.claude-3-haiku")
    assert counter.estimated
    assert counter.count([chat("x" * 40, "y" * 8)]) == [4 + 10 + 4 + 2]
    assert "(estimated)" in count_stats([chat("a")], counter).describe_tokens()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A base model's folder with a tokenizer that counts words, and a chat template that adds four."""
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    words.save(str(tmp_path / "tokenizer.json"))
    template = (
        "{% for m in messages %}{{ bos_token }} {{ m.role }} {{ m.content }}\n{% endfor %}{{ tools | tojson if tools }}"
    )
    (tmp_path / "chat_template.jinja").write_text(template)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": {"content": "<s>"}}))
    return tmp_path


def test_the_models_own_tokenizer_counts_the_chat_template_too(model: Path) -> None:
    counter = token_counter("my-model", model)
    assert not counter.estimated
    assert counter.count([chat("a b c", "d e")] * 1500) == [2 + 3 + 2 + 2] * 1500
    (model / "chat_template.jinja").unlink()
    plain = token_counter("my-model", model)
    assert plain.count([chat("a b c", "d e")]) == [3 + 1 + 2 + 1]
    assert plain.identity != counter.identity


def test_the_same_count_as_transformers(model: Path) -> None:
    transformers = pytest.importorskip("transformers")
    template = "{% for m in messages %}{{ bos_token }} {{ m['role'] }}\n{{ m['content'] | trim }}\n{% endfor %}"
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "chat_template": template}
    (model / "chat_template.jinja").unlink()
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    theirs = transformers.AutoTokenizer.from_pretrained(str(model))
    examples = [chat("  hello there\nyou ", "fine"), chat("x", "y z")]
    wire = [[{"role": m.role, "content": m.content} for m in e.messages] for e in examples]
    expected = [len(theirs.apply_chat_template(messages, return_dict=True)["input_ids"]) for messages in wire]
    assert FolderTokens("my-model", model).count(examples) == expected


@pytest.mark.parametrize(
    ("base_model", "package"),
    [
        ("open-mistral-7b", "sentencepiece"),
        ("mistral-small-latest", "tiktoken"),
        ("mistral-large-latest", "sentencepiece"),
    ],
)
def test_mistrals_own_tokenizers(base_model: str, package: str) -> None:
    pytest.importorskip("mistral_common")
    pytest.importorskip(package)  # an extra of mistral-common's; without it the count is an estimate
    counter = token_counter(base_model)
    assert isinstance(counter, MistralTokens)
    short, long = chat("hello", "hi"), chat("hello " * 50, "hi")
    call = ToolCall("call_1", "find", '{"a": 1}')
    turns = (
        Message("user", "x"),
        Message("assistant", "", (call,)),
        Message("tool", "y", tool_call_id="call_1"),
        Message("assistant", "z", weight=0.0),
        Message("user", "more"),
        Message("assistant", "done"),
    )
    half = Example((Message("user", "hello"), Message("assistant", "hi", weight=0.5)), "f", 1)
    assert counter.count([half]) == counter.count([short])
    counts = counter.count([short, long, Example(turns, "f", 1)])
    assert 5 <= counts[0] <= 10
    assert counts[1] >= counts[0] + 45
    assert counts[2] > 15


def test_the_table_of_tokenizers_is_mistral_commons_own() -> None:
    theirs = pytest.importorskip("mistral_common.tokens.tokenizers.mistral").MODEL_NAME_TO_TOKENIZER_CLS
    pytest.importorskip("sentencepiece")
    shared = sorted(theirs.keys() & MISTRAL_TOKENIZERS.keys())
    assert len(shared) >= 7
    for base_model in shared:
        file = theirs[base_model]().instruct_tokenizer.tokenizer.file_path
        assert MistralTokens(base_model).file == file, base_model


def test_without_its_package_a_count_is_an_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sentencepiece" else found(name))
    assert token_counter("open-mistral-7b").estimated


def test_the_data_card() -> None:
    rows: list[Any] = [(f"question {i} of many", "yes" if i % 3 else "no") for i in range(30)]
    examples = [chat(user, answer, line) for line, (user, answer) in enumerate([*rows, rows[0]], start=1)]
    severities: Any = {"exact-duplicate": "drop", "near-duplicate": "off"}
    cleaned = apply(examples, (), Settings(severities=severities))
    sources = [CardSource("data/train.jsonl", "CC-BY-4.0", 31, "ab" * 32), CardSource("a|b<script>.csv", None, 0)]
    card = data_card(
        "qa",
        "f" * 64,
        sources,
        summarise(cleaned),
        count_stats(cleaned.kept, ESTIMATE),
        train=28,
        validation=2,
        severities=severities,
    )
    for expected in (
        "# Dataset of qa",
        "28 examples to train on, 2 held back",
        "| data/train.jsonl | CC-BY-4.0 | 31 | `abababababababab` |",
        "| a\\|b&lt;script>.csv | not declared | 0 | - |",
        "31 examples read, 30 kept, 1 dropped.",
        "| exact-duplicate | drop | 1 | 1 |",
        "| near-duplicate | off | - | - |",
        "| email | error | 0 | - |",
        "| yes | 20 | 66.7% |",
        "(estimated)",
    ):
        assert expected in card
