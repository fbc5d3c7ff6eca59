"""The local provider passes the suite that every provider passes. There is no wire here: the kernel answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitune.providers.base import Job, TrainingRequest
from gitune.providers.local import LocalProvider
from gitune.providers.settings import ProviderSettings
from gitune.testing import Fault, ProviderConformance
from tests.journey import tiny_base_model, wait_until

EXAMPLE = {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "world"}]}


class LocalWorld:
    """Processes on this machine."""

    secrets = ("unused-here",)
    has_wire = False

    def __init__(self, root: Path, base_model: Path) -> None:
        self.root = root
        self._base_model = base_model
        (root / "dataset").mkdir()
        (root / "dataset" / "train.jsonl").write_text(f"{json.dumps(EXAMPLE)}\n" * 10)
        (root / "dataset" / "validation.jsonl").write_text("")

    def provider(self) -> LocalProvider:
        return LocalProvider(ProviderSettings(concurrency=4), self.root)

    second_clone = provider  # jobs of another clone are on another machine

    def without_credentials(self) -> None:
        return None

    def request(self, number: int = 0) -> TrainingRequest:
        values = {**LocalProvider.defaults.hyperparameters, "lora_layers": None, "seed": number}
        return TrainingRequest("local", str(self._base_model), "lora", values, "f" * 64)

    def refused_request(self) -> TrainingRequest:
        return TrainingRequest("local", str(self._base_model), "lora", {"epochs": -1}, "f" * 64)

    def dataset(self) -> Path:
        return self.root / "dataset"

    def finish(self, job: Job) -> None:
        wait_until(lambda: not (self.provider().find_job(job.key) or job).live, "the job ends")

    def calls(self) -> int:
        return 0

    def jobs(self) -> int:
        return len(list((self.root / ".gitune" / "jobs").glob("*/config.json")))

    def uploads(self) -> None:
        return None

    def close(self) -> None:
        """End what still runs."""
        for config in (self.root / ".gitune" / "jobs").glob("*/config.json"):
            self.provider().cancel_job(config.parent.name)

    def plant(self, fault: Fault, *, on: str = "any") -> None:
        raise NotImplementedError

    def accept_then_fail(self, message: str) -> None:
        raise NotImplementedError

    def lag_lists(self) -> None:
        raise NotImplementedError

    def lists_catch_up(self) -> None:
        raise NotImplementedError

    def say_status(self, job: Job, word: str) -> None:
        raise NotImplementedError


@pytest.fixture(scope="module")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base_model(tmp_path_factory.mktemp("base-model"))


@pytest.mark.slow
class TestLocal(ProviderConformance):
    @pytest.fixture
    def world(self, tmp_path: Path, base_model: Path) -> Iterator[LocalWorld]:
        world = LocalWorld(tmp_path, base_model)
        yield world
        world.close()
