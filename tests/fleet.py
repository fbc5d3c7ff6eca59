"""A repository of many tiny agents: what a stack of 1,000 costs is measured on it. For tests and scripts/bench."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from gitune.plan import Change, explain_step
from gitune.project import Project
from gitune.reconcile import ModelState
from gitune.round import handed_over, take_round
from gitune.stack import PulumiStack
from gitune.state import resource_outputs
from gitune.wishes import read_wishes

REPOSITORY = Path(__file__).resolve().parent.parent
EXAMPLES = 20


def write_fleet(
    root: Path,
    agents: int,
    *,
    training: Sequence[Mapping[str, Any]] = ({"provider": "mistral"},),
    providers: Mapping[str, Any] = MappingProxyType({"mistral": {"concurrency": 10_000, "total_jobs": "unlimited"}}),
    declare: Sequence[str] = ("models",),
    stack: str = "training",
    examples: int = EXAMPLES,
) -> Path:
    """A gitune repository of so many agents below `root`, whose stack trains each on `training`. Returns `root`."""
    (root / "agents").mkdir(parents=True)
    (root / "infra").mkdir()
    shutil.copy(REPOSITORY / "Pulumi.yaml", root)
    shutil.copy(REPOSITORY / "infra" / "__main__.py", root / "infra")
    config = {"gitune:declare": list(declare), "gitune:locks": "agents", "gitune:providers": dict(providers)}
    (root / f"Pulumi.{stack}.yaml").write_text(yaml.safe_dump({"config": config}))
    for number in range(agents):
        _write_agent(root / "agents" / f"agent-{number:05d}", number, training, examples)
    return root


def one_pass(root: Path, stack: str = "training") -> tuple[Change, ...]:
    """What `gitune up` does before it first waits: checks, one round, one pass of the engine. Returns the changes."""
    project = Project.open(stack, root)
    wishes = read_wishes(project)
    engine = PulumiStack.open(project, wishes)
    engine.mend(print)
    outputs = resource_outputs(engine.recorded(), "FineTunedModel")
    recorded = {agent: ModelState.from_outputs(found) for agent, found in outputs.items()}
    taken = take_round(project, wishes, recorded, time.time())
    by_agent = {wish.agent: wish for wish in wishes}
    changes: list[Change | None] = []
    with handed_over(taken, project) as targets:
        engine.up(targets, lambda step: changes.append(explain_step(step, by_agent, taken, project)), print)
    return tuple(change for change in changes if change is not None)


def _write_agent(folder: Path, number: int, training: Sequence[Mapping[str, Any]], count: int) -> None:
    """Its examples are its own: equal datasets would be one dataset and one training."""
    spec = {
        "dataset": {"sources": [{"path": "data/train.jsonl", "licence": "CC0-1.0"}], "validation": 0.1},
        "training": [dict(candidate) for candidate in training],
        "benchmark": {"cases": "benchmark/cases.jsonl"},
    }
    for name in ("data", "benchmark"):
        (folder / name).mkdir(parents=True)
    (folder / "agent.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    rows = [_messages(f"agent {number}: message {i} about {i % 3}") for i in range(count)]
    examples = [{"messages": [*row, {"role": "assistant", "content": f"intent_{i % 3}"}]} for i, row in enumerate(rows)]
    asked = [_messages(f"agent {number}: question {i} about {i % 3}") for i in range(3)]
    cases = [{"id": f"c{i}", "messages": row, "target": f"intent_{i % 3}"} for i, row in enumerate(asked)]
    for path, lines in (("data/train.jsonl", examples), ("benchmark/cases.jsonl", cases)):
        (folder / path).write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def _messages(user: str) -> list[dict[str, str]]:
    return [
        {"role": "system", "content": "Name the intent of the customer's message."},
        {"role": "user", "content": user},
    ]
