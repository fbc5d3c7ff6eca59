"""What a stack of many agents costs, in counts that do not depend on the machine: requests, resources, bytes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from gitune import checked
from gitune.checked import dataset_facts, hand_over
from gitune.files import read_json, write_atomic
from gitune.plan import plan_changes
from gitune.project import Project
from gitune.spec import load_agents
from gitune.state import RESOURCE_PREFIX
from gitune.wishes import read_wishes
from tests import journey
from tests.conftest import Repository
from tests.fleet import one_pass, write_fleet
from tests.servers.mistral import KEY, MistralServer

AGENTS = 60
MOST_BYTES = 4_000
"""Of state, for each agent."""


@dataclass(frozen=True)
class Fleet:
    root: Path
    server: MistralServer

    @property
    def project(self) -> Project:
        return Project.open("training", self.root)

    @property
    def checkpoint(self) -> Path:
        return self.root / ".gitune/pulumi/.pulumi/stacks/gitune/training.json"

    def resources(self) -> list[dict[str, Any]]:
        return read_json(self.checkpoint)["checkpoint"]["latest"].get("resources", [])  # type: ignore[no-any-return]

    def kinds(self) -> Counter[str]:
        ours = (r["type"] for r in self.resources() if not r["type"].startswith("pulumi:"))
        return Counter(kind.removeprefix(RESOURCE_PREFIX) for kind in ours)

    def requests(self) -> Counter[str]:
        """Since the last time."""
        found = Counter(f"{r.method} {r.path}" for r in self.server.requests)
        self.server.requests.clear()
        return found


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    with MistralServer() as server:
        monkeypatch.setenv("MISTRAL_API_KEY", KEY)
        monkeypatch.setenv("MISTRAL_BASE_URL", server.url)
        yield Fleet(tmp_path / "repository", server)
        assert server.violations == []


@pytest.mark.slow
@pytest.mark.long
def test_sixty_agents_are_planned_and_created_in_one_pass_each(fleet: Fleet) -> None:
    write_fleet(fleet.root, AGENTS)
    planned = plan_changes(fleet.project)
    assert Counter(change.action for change in planned) == {"train": AGENTS}
    assert fleet.requests() == {"GET /v1/fine_tuning/jobs": 2}  # ours, and all that take a place

    assert len(one_pass(fleet.root)) == AGENTS
    created = fleet.requests()
    assert created["POST /v1/fine_tuning/jobs"] == AGENTS
    assert fleet.kinds() == {"Datasets": 1, "FineTunedModel": AGENTS}
    assert fleet.checkpoint.stat().st_size < AGENTS * MOST_BYTES
    assert _checkpoints(fleet) == 1

    assert plan_changes(fleet.project) == ()
    assert fleet.requests() == {"GET /v1/fine_tuning/jobs": 1}


@pytest.mark.slow
@pytest.mark.long
def test_an_engine_that_is_killed_is_made_up_for_by_the_next_pass(fleet: Fleet) -> None:
    """It has recorded nothing of the jobs that it started, nor what it was about to do."""
    write_fleet(fleet.root, 12)
    killed = journey.start(Repository(fleet.root), "up", "-s", "training")
    journey.wait_until(lambda: len(fleet.server.jobs.all) >= 4, "four jobs")
    engine = journey.engine_of(Repository(fleet.root))
    assert engine is not None
    family = engine.children(recursive=True)
    engine.kill()
    killed.communicate()
    psutil.wait_procs(family, timeout=10)
    submitted = set(fleet.server.jobs.all)
    assert fleet.resources() == []
    one_pass(fleet.root)
    keys = Counter(job.facts["suffix"] for job in fleet.server.jobs.all.values())
    assert set(keys.values()) == {1}
    models = [r["outputs"] for r in fleet.resources() if r["type"].endswith("FineTunedModel")]
    assert submitted <= {model["job_id"] for model in models}
    # Who was cut off in the very call that starts a job waits: that job may yet be listed.
    assert Counter(model["status"] for model in models)["running"] == len(keys)
    assert fleet.kinds() == {"Datasets": 1, "FineTunedModel": 12}
    assert not read_json(fleet.checkpoint)["checkpoint"]["latest"].get("pending_operations")


@pytest.mark.slow
def test_a_stack_of_an_older_gitune_goes_on(fleet: Fleet) -> None:
    """There each agent had a component with a Dataset and a FineTunedModel below it."""
    write_fleet(fleet.root, 3)
    one_pass(fleet.root)
    recorded = {r["id"]: r["outputs"]["job_id"] for r in fleet.resources() if r["type"].endswith("FineTunedModel")}
    fleet.requests()
    _record_as_before(fleet)
    files = sorted(path for path in (fleet.root / ".gitune/datasets").rglob("*") if path.is_file())

    assert plan_changes(fleet.project) == ()
    assert one_pass(fleet.root) == ()
    assert fleet.kinds() == {"Datasets": 1, "FineTunedModel": 3}
    now = {r["id"]: r["outputs"]["job_id"] for r in fleet.resources() if r["type"].endswith("FineTunedModel")}
    assert now == recorded
    assert sorted(path for path in (fleet.root / ".gitune/datasets").rglob("*") if path.is_file()) == files
    assert {method for method, _, _ in (asked.partition(" ") for asked in fleet.requests())} == {"GET"}


def test_what_was_checked_is_taken_over_while_no_agent_yaml_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_fleet(tmp_path / "repository", 2)
    project = Project.open("training", root)
    handed = tmp_path / "checked.json"
    hand_over(read_wishes(project), handed)
    monkeypatch.setenv(checked.CHECKED_VARIABLE, str(handed))
    taken = dataset_facts(load_agents(root), project)
    assert [facts.examples for facts in taken.values()] == [18, 18]
    monkeypatch.setattr("gitune.dataset.build.build_dataset", lambda *_: pytest.fail("built again"))
    assert dataset_facts(load_agents(root), project) == taken
    monkeypatch.undo()

    monkeypatch.setenv(checked.CHECKED_VARIABLE, str(handed))
    file = root / "agents" / "agent-00001" / "agent.yaml"
    file.write_text(file.read_text().replace("validation: 0.1", "validation: 0.5"))
    again = dataset_facts(load_agents(root), project)
    assert [facts.examples for facts in again.values()] == [18, 10]


def test_no_program_is_told_of_a_file_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_fleet(tmp_path / "repository", 1)
    monkeypatch.setenv(checked.CHECKED_VARIABLE, str(tmp_path / "gone.json"))
    assert dataset_facts(load_agents(root), Project.open("training", root))["agent-00000"].examples == 18


def _checkpoints(fleet: Fleet) -> int:
    """Copies of the state beside it: one for each pass in the history, none of single steps."""
    state = fleet.root / ".gitune/pulumi/.pulumi"
    return len(list((state / "history").rglob("*.checkpoint.json"))) + len(list(state.glob("backups/**/*.json")))


def _record_as_before(fleet: Fleet) -> None:
    """Rewrite the state as it was recorded with a component and a Dataset for each agent."""
    data = read_json(fleet.checkpoint)
    stack, *others = data["checkpoint"]["latest"]["resources"]
    prefix = "urn:pulumi:training::gitune::"
    provider = next(r for r in others if r["type"] == "pulumi:providers:pulumi-python")
    old = [stack, provider]
    for model in (r for r in others if r["type"].endswith("FineTunedModel")):
        agent = model["id"]
        component = f"{prefix}gitune:Agent::{agent}"
        old.append({"urn": component, "custom": False, "type": "gitune:Agent", "parent": stack["urn"]})
        facts = {
            "__provider": _DATASET_PROVIDER,
            "agent": agent,
            "stack": "training",
            "fingerprint": model["inputs"]["fingerprint"],
            "published": f".gitune/store/{model['inputs']['fingerprint']}",
            "train": 18,
            "validation": 2,
        }
        dataset = f"{prefix}gitune:Agent$pulumi-python:dynamic/gitune:Dataset::{agent}"
        old.append(
            {
                "urn": dataset,
                "custom": True,
                "id": agent,
                "type": "pulumi-python:dynamic/gitune:Dataset",
                "inputs": facts,
                "outputs": facts,
                "parent": component,
                "provider": model["provider"],
            }
        )
        urn = f"{prefix}gitune:Agent$pulumi-python:dynamic/gitune:FineTunedModel::{agent}"
        old.append({**model, "urn": urn, "parent": component, "dependencies": [dataset]})
    data["checkpoint"]["latest"]["resources"] = old
    write_atomic(fleet.checkpoint, json.dumps(data))


_DATASET_PROVIDER = "gASVMwAAAAAAAACMGGdpdHVuZS5yZXNvdXJjZXMuZGF0YXNldJSMD0RhdGFzZXRQcm92aWRlcpSTlCmBlC4="
"""gitune.resources.dataset.DatasetProvider, as it was recorded."""
