"""The local provider passes the suite that every provider passes. There is no wire here: the kernel answers.

Processes, their locks, slots, files and logs are real; what they run trains nothing, in a fifth of a second. The real
training is that of test_local.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitune.providers.base import Job, TrainingRequest
from gitune.providers.local import LocalProvider
from gitune.providers.settings import ProviderSettings
from gitune.testing import Fault, ProviderConformance
from tests.journey import wait_until
from tests.providers.ray_world import BASE_MODEL, stub_python

EXAMPLE = {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "world"}]}

# It stands for training/run.py alone, with the files that this writes.
_STUB = """
import json, os, pathlib, sys, time
if "gitune.training.run" in sys.orig_argv:
    folder = pathlib.Path(sys.orig_argv[-1])
    config = json.loads((folder / "config.json").read_text())
    def tell(event, **status):
        at = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
        with (folder / "events.jsonl").open("a") as events:
            events.write(json.dumps({"at": at, "event": event}) + chr(10))
        (folder / "status.new").write_text(json.dumps({"stage": "training", **status}))
        os.replace(folder / "status.new", folder / "status.json")
    tell("started", status="running", progress=0.5)
    print("step 1 of 2", flush=True)
    print("step 2", end="", flush=True)
    time.sleep(1.0)
    print(" of 2", flush=True)
    (folder / "model").mkdir()
    (folder / "model" / "adapter_config.json").write_text("{}")
    facts = {"base_model": config["base_model"], "key": config["key"]}
    (folder / "model" / "training.json").write_text(json.dumps(facts))
    tell("finished", status="succeeded", tokens_per_second=1.0)
    os._exit(0)
"""


class LocalWorld:
    """Processes on this machine."""

    secrets = ("unused-here",)
    has_wire = False

    def __init__(self, root: Path) -> None:
        self.root = root
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
        return TrainingRequest("local", BASE_MODEL, "lora", values, "f" * 64)

    def refused_request(self) -> TrainingRequest:
        return TrainingRequest("local", BASE_MODEL, "lora", {"epochs": -1}, "f" * 64)

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
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(stub_python(tmp_path_factory.mktemp("python"), _STUB))


@pytest.mark.slow
class TestLocal(ProviderConformance):
    @pytest.fixture
    def world(self, tmp_path: Path, python: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalWorld]:
        monkeypatch.setattr(sys, "executable", python)
        world = LocalWorld(tmp_path)
        yield world
        world.close()
