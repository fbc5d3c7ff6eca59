"""What a command found of the datasets when it checked the agents, handed to the program that it has the engine run.

So each dataset is built once for a plan, not twice, and what is planned is what was checked, whoever edits files
meanwhile. Without a command, as under `gitune pulumi up`, the program builds the datasets itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gitune.files import read_json
from gitune.hashing import sha256
from gitune.project import Project
from gitune.spec import AgentSpec

if TYPE_CHECKING:
    from gitune.wishes import Wish

CHECKED_VARIABLE = "GITUNE_CHECKED"
"""Names the file of `hand_over` to the engine's program."""


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """What the engine's state says of a dataset."""

    fingerprint: str
    examples: int
    """That are trained on."""


def hand_over(wishes: Sequence[Wish], file: Path) -> None:
    """Write what was found of all agents."""
    found = {wish.agent: asdict(DatasetFacts(wish.requests[0].fingerprint, wish.examples)) for wish in wishes}
    written = {"specs": _digest(wish.spec for wish in wishes), "datasets": found}
    file.write_text(json.dumps(written), encoding="utf-8")


def dataset_facts(specs: Sequence[AgentSpec], project: Project) -> Mapping[str, DatasetFacts]:
    """By agent: what was handed over, if no agent.yaml has changed since; else of datasets built now.

    Raises InvalidInput.
    """
    handed = read_json(Path(os.environ.get(CHECKED_VARIABLE) or os.devnull))
    if isinstance(handed, dict) and handed["specs"] == _digest(specs):
        return {name: DatasetFacts(**found) for name, found in handed["datasets"].items()}
    return {spec.name: _facts(spec, project) for spec in specs}


def _facts(spec: AgentSpec, project: Project) -> DatasetFacts:
    from gitune.dataset import build_dataset  # much to import, and mostly not needed

    dataset = build_dataset(spec, project.root)
    return DatasetFacts(dataset.fingerprint, len(dataset.train))


def _digest(specs: Iterable[AgentSpec]) -> str:
    """Of all agents together, because an agent may take examples of another's sources."""
    return sha256(spec.model_dump_json() for spec in specs)
