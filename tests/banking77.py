"""Banking77's most frequent intents as an agent, with held-out cases."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from pathlib import Path

from tests.conftest import REPOSITORY, Repository, agent_yaml, case, example

FOLDER = REPOSITORY.parent / "shared" / "data"


def add_banking_agent(repository: Repository, examples: int = 180, cases: int = 100, intents: int = 6) -> None:
    """Which rows are taken depends on their hash only."""
    train = _rows("banking77_train.csv")
    chosen = {intent for intent, _ in Counter(row["category"] for row in train).most_common(intents)}
    rows = [row for row in train if row["category"] in chosen][:examples]
    held_out = [row for row in _rows("banking77_test.csv") if row["category"] in chosen][:cases]
    repository.add_agent(
        "banking",
        agent_yaml(
            dataset={"sources": [{"path": "data/train.jsonl", "licence": "CC-BY-4.0"}], "validation": 0.0},
            benchmark={"cases": "benchmark/cases.jsonl", "max_new_tokens": 24},
            training=[{"provider": "local", "hyperparameters": {"epochs": 4}}],
            gate={"min_improvement": 0.6},
        ),
        [example(row["text"], row["category"]) for row in rows],
        [case(f"case-{i}", row["text"], row["category"]) for i, row in enumerate(held_out)],
    )


def _rows(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(encoding="utf-8", newline="") as file:
        rows = {row["text"]: row for row in csv.DictReader(file)}
    return sorted(rows.values(), key=lambda row: hashlib.sha256(row["text"].encode()).hexdigest())


def available() -> bool:
    return Path(FOLDER / "banking77_train.csv").is_file()
