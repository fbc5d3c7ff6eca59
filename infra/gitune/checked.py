"""What a command found of the datasets when it checked the agents, handed to the program that it has the engine run.

So each dataset is built once for a plan, not twice, and what is planned is what was checked, whoever edits files
meanwhile. Without a command, as under `gitune pulumi up`, the program builds the datasets itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from gitune.files import read_json
from gitune.hashing import sha256
from gitune.project import CheckedAgents, DatasetFacts, Project
from gitune.spec import AgentSpec

VARIABLE = "GITUNE_CHECKED"
"""Names the file of `hand_over` to the engine's program."""


def hand_over(agents: CheckedAgents, file: Path) -> None:
    """Write what was found."""
    found = {name: asdict(facts) for name, facts in agents.datasets.items()}
    file.write_text(json.dumps({"specs": _digest(agents.specs.values()), "datasets": found}), encoding="utf-8")


def dataset_facts(specs: Sequence[AgentSpec], project: Project) -> Mapping[str, DatasetFacts]:
    """By agent: what was handed over, if no agent.yaml has changed since; else of datasets built now.

    Raises InvalidInput.
    """
    handed = read_json(Path(os.environ.get(VARIABLE) or os.devnull))
    if isinstance(handed, dict) and handed["specs"] == _digest(specs):
        return {name: DatasetFacts(**found) for name, found in handed["datasets"].items()}
    from gitune.dataset import build_dataset  # much to import, and mostly not needed

    return {spec.name: DatasetFacts.of(build_dataset(spec, project.root)) for spec in specs}


def _digest(specs: Iterable[AgentSpec]) -> str:
    """Of all agents together, because an agent may take examples of another's sources."""
    return sha256(spec.model_dump_json() for spec in specs)
