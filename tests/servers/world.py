"""The World of a provider that one local server with `jobs` stands for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from gitune.providers import provider_class
from gitune.providers.base import Job, Provider, TrainingRequest
from gitune.testing import Fault
from tests.servers.base import HttpServer

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]
EXAMPLES = [
    {
        "messages": [
            {"role": "system", "content": "Answer with the number's name."},
            {"role": "user", "content": f"number {number}"},
            {"role": "assistant", "content": name},
        ]
    }
    for number, name in enumerate(NAMES)
]


def write_dataset(folder: Path, rows: Sequence[Mapping[str, Any]] = EXAMPLES) -> Path:
    """A dataset's folder, as `gitune dataset build` leaves it to a provider."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / "validation.jsonl").write_text("")
    return folder


class HttpWorld:
    """Subclasses say which provider, and how the environment names its server and key."""

    name: str
    has_wire = True
    base_model: str
    hyperparameters: Mapping[str, Any] = {"epochs": 3}

    def __init__(
        self, server: Any, root: Path, monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str]
    ) -> None:
        self.server, self.root, self._monkeypatch = server, root / "repository", monkeypatch
        self._clone = root / "clone"
        self._secrets = [name for name in environment if "KEY" in name or "TOKEN" in name or "SECRET" in name]
        self.secrets = tuple(environment[name] for name in self._secrets)
        self._folder = write_dataset(root / "dataset")
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    def settings(self) -> dict[str, Any]:
        """The stack's block."""
        return {"timeout_seconds": 0.5}

    def open(self, root: Path) -> Provider:
        made = provider_class(self.name)
        return made(made.settings.model_validate(self.settings()), root)

    def provider(self) -> Provider:
        return self.open(self.root)

    def second_clone(self) -> Provider:
        return self.open(self._clone)

    def without_credentials(self) -> Provider | None:
        for name in self._secrets:
            self._monkeypatch.delenv(name)
        return self.provider()

    def request(self, number: int = 0) -> TrainingRequest:
        values = {**self.hyperparameters, "epochs": 3 + number}
        return TrainingRequest(self.name, self.base_model, "lora", values, "f" * 64)

    def refused_request(self) -> TrainingRequest:
        return TrainingRequest(self.name, self.base_model, "lora", {**self.hyperparameters, "epoch": 3}, "f" * 64)

    def dataset(self) -> Path:
        return self._folder

    def finish(self, job: Job) -> None:
        self.server.jobs.finish(job.job_id)

    def calls(self) -> int:
        server: HttpServer = self.server
        return len(server.requests)

    def jobs(self) -> int:
        return len(self.server.jobs.all)

    def uploads(self) -> int | None:
        return len(self.server.contents)

    def plant(self, fault: Fault, *, on: Literal["any", "submit"] = "any") -> None:
        self.server.plant(fault, on_submit=on == "submit")

    def accept_then_fail(self, message: str) -> None:
        self.server.jobs.fail_next.append(message)

    def lag_lists(self) -> None:
        self.server.jobs.lagging = True

    def lists_catch_up(self) -> None:
        self.server.jobs.catch_up()

    def say_status(self, job: Job, word: str) -> None:
        self.server.jobs.all[job.job_id].word = word
