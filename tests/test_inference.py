"""Answers of the real small model, with an adapter that was trained for a few steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="the extra 'local' is not installed")

from gitune.errors import UserError
from gitune.inference import LocalModel
from gitune.training import sft
from gitune.training.base_model import DEFAULT_BASE_MODEL, resolve_base_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # torch, transformers and TRL deprecate each other's calls
]

WORDS = ("red", "green", "blue")


def question(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"The colour of {'very ' * (number % 4)}{WORDS[number % 3]} paint?"}]


@pytest.fixture(scope="module")
def base_model() -> str:
    try:
        return resolve_base_model(DEFAULT_BASE_MODEL)
    except UserError as error:
        pytest.skip(error.message)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, base_model: str) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    rows: list[dict[str, Any]] = [
        {"messages": [*question(number), {"role": "assistant", "content": WORDS[number % 3]}]} for number in range(24)
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = {"epochs": 4, "lora_layers": 4, "save_every": 0.9}
    config = {"base_model": base_model, "method": "lora", "hyperparameters": settings, "key": ""}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    arguments = ["--config", str(folder / "config.json"), "--train", str(folder / "train.jsonl")]
    assert sft.main([*arguments, "--output", str(folder / "out")]) == 0
    return folder / "out" / "model"


@pytest.fixture(scope="module")
def model(base_model: str, adapter: Path) -> LocalModel:
    return LocalModel.open(base_model, adapter)


def texts(model: LocalModel, count: int = 12) -> list[str]:
    return [one.text for one in model.generate([question(n) for n in range(count)], max_new_tokens=6)]


def test_tuned_model_has_learned_and_answers_in_order(model: LocalModel) -> None:
    seen: list[tuple[int, int]] = []
    conversations = [question(number) for number in range(12)]
    found = model.generate(conversations, max_new_tokens=6, batch_size=5, on_progress=lambda *at: seen.append(at))
    assert [one.text for one in found] == [WORDS[number % 3] for number in range(12)]
    assert seen == [(5, 12), (10, 12), (12, 12)]
    assert all(one.seconds is None and one.completion_tokens >= 2 and one.prompt_tokens > 10 for one in found)


def test_one_load_answers_as_both_as_two_loads_do(model: LocalModel, base_model: str, adapter: Path) -> None:
    tuned = texts(model)
    with model.without_adapter():
        untuned = texts(model)
    assert texts(model) == tuned
    assert untuned != tuned

    other = LocalModel.open(base_model)
    assert texts(other) == untuned
    before = {name: value.clone() for name, value in other._model.named_parameters()}
    other.use_adapter(adapter)
    assert texts(other) == tuned
    other.use_adapter(None)
    assert all(before[name].equal(value) for name, value in other._model.named_parameters())


def test_tuned_answers_do_not_depend_on_the_batch(model: LocalModel) -> None:
    alone = [model.answer(question(number), 6) for number in range(12)]
    assert [one.text for one in alone] == texts(model)
    assert all(one.seconds is not None and one.seconds > 0 for one in alone)


def test_stream_gives_the_same_answer(model: LocalModel) -> None:
    assert "".join(model.stream(question(1), 6)) == texts(model)[1]


def test_no_conversation_no_answer(model: LocalModel) -> None:
    assert model.generate([], max_new_tokens=4) == []


def test_missing_adapter_or_base_model_is_said(model: LocalModel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no adapter in"):
        model.use_adapter(tmp_path)
    with pytest.raises(UserError, match="cannot load the base model"):
        LocalModel.open(str(tmp_path))
    assert len(texts(model)) == 12
