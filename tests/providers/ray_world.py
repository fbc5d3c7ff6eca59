"""A Ray cluster as ProviderConformance sees it: a real one, where trainings take a fifth of a second."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any, Literal

from gitune.providers.base import Job, TrainingRequest
from gitune.providers.ray import RayProvider, RaySettings
from gitune.testing import Fault
from tests.servers.ray import TOKEN, RayProxy
from tests.servers.world import write_dataset

KEY_VARIABLE = "GITUNE_RAY_TOKEN"
BASE_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"

# Python runs this before anything else. It stands for sft.py alone: the cluster, the job's script, which fetches,
# mirrors and puts, and the store are the real ones.
_STUB = """
import json, os, pathlib, sys, time
if any(argument.endswith("/sft.py") for argument in sys.orig_argv):
    told = pathlib.Path(sys.prefix, "told.json")
    told = json.loads(told.read_text()) if told.is_file() else {}
    output = pathlib.Path(sys.orig_argv[sys.orig_argv.index("--output") + 1])
    config = json.loads(pathlib.Path(sys.orig_argv[sys.orig_argv.index("--config") + 1]).read_text())
    checkpoint = output / "checkpoints" / "checkpoint-3" / "trainer_state.json"
    status = {"status": "running", "stage": "training", "progress": 0.5}
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    (output / "checkpoints" / "identity").write_text("identity")
    (checkpoint.parent / "optimizer.pt").write_bytes(b"weights")
    checkpoint.write_text("{}")
    (output / "status.json").write_text(json.dumps(status))
    time.sleep(told.get("seconds", 0.2))
    if "fails" in told:
        kind = "rejected" if told["fails"].startswith("Invalid") else "crashed"
        status = {"status": "failed", "error": {"kind": kind, "message": told["fails"]}}
        (output / "status.json").write_text(json.dumps(status))
        os._exit(1 if kind == "rejected" else 3)
    (output / "model").mkdir()
    (output / "model" / "adapter_config.json").write_text("{}")
    facts = {"base_model": config["base_model"], "key": config["key"]}
    (output / "model" / "training.json").write_text(json.dumps(facts))
    os._exit(0)
"""


def stub_python(folder: Path, stub: str = _STUB) -> Path:
    """An interpreter that trains nothing, quickly: a virtual environment without a copy of anything.

    `stub` is what it runs before anything else.
    """
    site = folder / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    site.mkdir(parents=True)
    (folder / "bin").mkdir()
    real = Path(sys._base_executable)  # type: ignore[attr-defined]
    (folder / "bin" / "python").symlink_to(real)
    (folder / "pyvenv.cfg").write_text(f"home = {real.parent}\n")
    (site / "packages.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    (site / "sitecustomize.py").write_text(stub)
    return folder / "bin" / "python"


class RayWorld:
    """One test's view of the cluster; keys are its own, because the cluster is shared."""

    secrets = (TOKEN,)
    has_wire = True

    def __init__(self, proxy: RayProxy, folder: Path) -> None:
        self.proxy = proxy
        self.root = folder
        self.store = f"file://{folder / 'store'}"
        self.python = stub_python(folder / "python")
        self._timeout = 30.0
        write_dataset(folder / "dataset")

    def settings(self, **changes: Any) -> RaySettings:
        values = {
            "base_url": self.proxy.url,
            "key_variable": KEY_VARIABLE,
            "store": self.store,
            "python": str(self.python),
            "timeout_seconds": self._timeout,
        }
        return RaySettings(**{**values, **changes})

    def provider(self) -> RayProvider:
        return RayProvider(self.settings(), self.root / "clone")

    def second_clone(self) -> RayProvider:
        return RayProvider(self.settings(), self.root / "second-clone")

    def without_credentials(self) -> RayProvider:
        return RayProvider(self.settings(key_variable="GITUNE_NOT_SET"), self.root / "clone")

    def request(self, number: int = 0) -> TrainingRequest:
        values = {**RayProvider.defaults.hyperparameters, "seed": number}
        fingerprint = hashlib.sha256(str(self.root).encode()).hexdigest()
        return TrainingRequest("ray", BASE_MODEL, "lora", values, fingerprint)

    def refused_request(self) -> TrainingRequest:
        return TrainingRequest("ray", BASE_MODEL, "lora", {"epochs": -1}, "f" * 64)

    def dataset(self) -> Path:
        return self.root / "dataset"

    def finish(self, job: Job) -> None:
        deadline = time.monotonic() + 60
        while (self.provider().find_job(job.key) or job).live:
            assert time.monotonic() < deadline, "the job did not end"
            time.sleep(0.1)

    def calls(self) -> int:
        return len(self.proxy.requests)

    def jobs(self) -> int:
        return len(self.proxy.accepted)

    def uploads(self) -> int:
        return len(list((self.root / "store" / "data").iterdir()))

    def plant(self, fault: Fault, *, on: Literal["any", "submit"] = "any") -> None:
        self._timeout = 0.7 if fault.kind == "slow" else self._timeout
        self.proxy.plant(fault, on_submit=on == "submit")

    def tell_training(self, **facts: Any) -> None:
        """What the next trainings do: `seconds` they take, `fails` with these words."""
        (self.root / "python" / "told.json").write_text(json.dumps(facts))

    def accept_then_fail(self, message: str) -> None:
        self.tell_training(fails=message)

    def lag_lists(self) -> None:
        self.proxy.lagging = True

    def lists_catch_up(self) -> None:
        self.proxy.catch_up()

    def say_status(self, job: Job, word: str) -> None:
        self.proxy.says[job.job_id] = {"status": word}
