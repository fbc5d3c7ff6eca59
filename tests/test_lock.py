"""Locks: versions, and reading back what was written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gitune.errors import InvalidInput
from gitune.lock import Lock, next_version, read_lock, write_lock

LOCK = Lock(
    agent="support",
    version="1.2.3",
    provider="local",
    model_id="local:0123456789abcdef",
    base_model="smollm2-135m-instruct",
    method="lora",
    hyperparameters={"epochs": 3, "learning_rate": 0.004},
    dataset={"fingerprint": "f" * 64, "examples": 456},
    job={"id": "0123456789abcdef", "key": "0" * 64, "seconds": 61.5, "cost_usd": 0.0},
    benchmark={"cases": 180, "fingerprint": "c" * 64, "accuracy": 0.9, "base_accuracy": 0.0, "latency_seconds": 0.3},
    verdict={"outcome": "pass", "reasons": ["accuracy 0 → 90 %: enough"], "gate": {"min_improvement": 0.08}},
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a" / "model.lock.yaml"
    write_lock(path, LOCK)
    assert read_lock(path) == LOCK
    assert path.read_text().startswith("# Written by gitune.")
    assert read_lock(tmp_path / "none.yaml") is None


@pytest.mark.parametrize(
    ("change", "version"),
    [
        ({}, "1.2.3"),
        ({"verdict": {}}, "1.2.3"),
        ({"model_id": "local:other"}, "1.2.4"),
        ({"dataset": {"fingerprint": "0" * 64}}, "1.3.0"),
        ({"hyperparameters": {"epochs": 4}}, "1.3.0"),
        ({"base_model": "other", "hyperparameters": {}}, "2.0.0"),
        ({"method": "other"}, "2.0.0"),
    ],
)
def test_versions_tell_what_changed(change: dict[str, object], version: str) -> None:
    assert next_version(LOCK, replace(LOCK, **change)) == version  # type: ignore[arg-type]


def test_the_first_version() -> None:
    assert next_version(None, LOCK) == "1.0.0"


@pytest.mark.parametrize("text", ["", "agent: x\n", "[", "agent: x\nunknown: y\n"])
def test_a_file_that_is_no_lock_is_an_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "model.lock.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput):
        read_lock(path)


def test_a_lock_is_read_on_one_screen(tmp_path: Path) -> None:
    hyperparameters = {f"setting_{number}": number for number in range(15)} | {
        "modules": ["q_proj", "k_proj", "v_proj"]
    }
    gate = {f"limit_{number}": 0.5 for number in range(7)}
    reasons = ["accuracy 0 → 90 %: enough", "median latency 0.1 s: at most 2 s asked"]
    long = replace(LOCK, hyperparameters=hyperparameters, verdict={"outcome": "pass", "reasons": reasons, "gate": gate})
    path = tmp_path / "model.lock.yaml"
    write_lock(path, long)
    assert read_lock(path) == long
    lines = path.read_text().splitlines()
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 120
    assert [line for line in lines if "median latency" in line] == [f"  - '{reasons[1]}'"]
