"""A repository of many agents, each tiny: what a stack of 1,000 costs is measured on it. For tests and scripts/bench."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
EXAMPLES = 20


def write_fleet(
    root: Path,
    agents: int,
    *,
    training: Sequence[Mapping[str, Any]] = ({"provider": "mistral"},),
    providers: Mapping[str, Any] | None = None,
    declare: Sequence[str] = ("models",),
    stack: str = "training",
) -> Path:
    """A gitune repository of so many agents below `root`, whose stack trains each on `training`. Returns `root`."""
    (root / "agents").mkdir(parents=True)
    (root / "infra").mkdir()
    shutil.copy(REPOSITORY / "Pulumi.yaml", root)
    shutil.copy(REPOSITORY / "infra" / "__main__.py", root / "infra")
    config = {"gitune:declare": list(declare), "gitune:locks": "agents", "gitune:providers": dict(providers or {})}
    (root / f"Pulumi.{stack}.yaml").write_text(yaml.safe_dump({"config": config}))
    for number in range(agents):
        _write_agent(root / "agents" / f"agent-{number:05d}", number, training)
    return root


def _write_agent(folder: Path, number: int, training: Sequence[Mapping[str, Any]]) -> None:
    """Its examples are its own: equal datasets would be one dataset and one training."""
    spec = {
        "dataset": {"sources": [{"path": "data/train.jsonl"}], "validation": 0.1},
        "training": [dict(candidate) for candidate in training],
        "benchmark": {"cases": "benchmark/cases.jsonl"},
    }
    for name in ("data", "benchmark"):
        (folder / name).mkdir(parents=True)
    (folder / "agent.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    rows = [_messages(f"agent {number}: message {i} about {i % 3}") for i in range(EXAMPLES)]
    examples = [{"messages": [*row, {"role": "assistant", "content": f"intent_{i % 3}"}]} for i, row in enumerate(rows)]
    cases = [
        {
            "id": f"c{i}",
            "messages": _messages(f"agent {number}: question {i} about {i % 3}"),
            "target": f"intent_{i % 3}",
        }
        for i in range(3)
    ]
    for path, lines in (("data/train.jsonl", examples), ("benchmark/cases.jsonl", cases)):
        (folder / path).write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def _messages(user: str) -> list[dict[str, str]]:
    return [
        {"role": "system", "content": "Name the intent of the customer's message."},
        {"role": "user", "content": user},
    ]
