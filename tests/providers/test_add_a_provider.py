"""The provider in docs/add-a-provider.md works as it stands there, found through an installed package's entry point."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from gitune import providers
from gitune.errors import InvalidInput, UserError
from gitune.project import Project
from gitune.providers.base import Job, Provider, TrainingRequest
from gitune.providers.settings import HttpSettings
from gitune.testing import Fault, ProviderConformance
from tests.conftest import REPOSITORY
from tests.servers.acme import KEY, AcmeServer

DOCUMENT = REPOSITORY / "docs" / "add-a-provider.md"
EXAMPLE = {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "world"}]}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The document's code as an installed package, with its entry point."""
    site = tmp_path / "site"
    facts = site / "gitune_acme-1.0.dist-info"
    facts.mkdir(parents=True)
    (site / "gitune_acme.py").write_text(DOCUMENT.read_text().split("```python\n")[1].split("```")[0])
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: gitune-acme\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[gitune.providers]\nacme = gitune_acme:AcmeProvider\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("ACME_API_KEY", KEY)
    providers._others.cache_clear()
    yield
    providers._others.cache_clear()


class AcmeWorld:
    """The invented vendor's server."""

    secrets = (KEY,)
    has_wire = True

    def __init__(self, server: AcmeServer, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._server, self.root, self._monkeypatch = server, root, monkeypatch
        folder = root / "dataset"
        folder.mkdir(parents=True)
        (folder / "train.jsonl").write_text(f"{json.dumps(EXAMPLE)}\n" * 10)
        (folder / "validation.jsonl").write_text("")

    def provider(self) -> Provider:
        made = providers.provider_class("acme")
        return made(HttpSettings(base_url=self._server.url, timeout_seconds=0.5), self.root)

    second_clone = provider

    def without_credentials(self) -> Provider:
        self._monkeypatch.delenv("ACME_API_KEY")
        return self.provider()

    def request(self, number: int = 0) -> TrainingRequest:
        return TrainingRequest("acme", "acme-small", "lora", {"epochs": 3 + number}, "f" * 64)

    def refused_request(self) -> TrainingRequest:
        return TrainingRequest("acme", "acme-small", "lora", {"epoch": 3}, "f" * 64)

    def dataset(self) -> Path:
        return self.root / "dataset"

    def finish(self, job: Job) -> None:
        self._server.jobs.finish(job.job_id)

    def calls(self) -> int:
        return len(self._server.requests)

    def jobs(self) -> int:
        return len(self._server.jobs.all)

    def uploads(self) -> int:
        return sum(request.method == "PUT" for request in self._server.requests)

    def plant(self, fault: Fault, *, on: Literal["any", "submit"] = "any") -> None:
        self._server.plant(fault, on_submit=on == "submit")

    def accept_then_fail(self, message: str) -> None:
        self._server.jobs.fail_next.append(message)

    def lag_lists(self) -> None:
        """Acme finds jobs by key, not by a list: nothing lags."""

    def lists_catch_up(self) -> None:
        """See lag_lists."""

    def say_status(self, job: Job, word: str) -> None:
        self._server.jobs.all[job.job_id].word = word


class TestAcme(ProviderConformance):
    @pytest.fixture
    def world(self, tmp_path: Path, installed: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[AcmeWorld]:
        with AcmeServer() as server:
            yield AcmeWorld(server, tmp_path / "repository", monkeypatch)


def test_it_is_complete_in_under_100_lines() -> None:
    code = DOCUMENT.read_text().split("```python\n")[1].split("```")[0]
    assert len(code.splitlines()) < 100


def _stack(root: Path, block: dict[str, Any]) -> Path:
    (root / "Pulumi.yaml").write_text("name: x\nruntime: python\n")
    config = json.dumps({"config": {"gitune:providers": {"acme": block}}}, indent=1)
    (root / "Pulumi.dev.yaml").write_text(config)
    return root


def test_its_block_of_a_stack_is_checked_with_file_and_line(tmp_path: Path, installed: None) -> None:
    good = Project.open("dev", _stack(tmp_path, {"base_url": "https://acme.example"}))
    assert good.provider("acme").name == "acme"
    with pytest.raises(InvalidInput) as raised:
        Project.open("dev", _stack(tmp_path, {"base_ulr": "https://acme.example"}))
    (problem,) = raised.value.problems
    assert (problem.file, problem.line, problem.hint) == ("Pulumi.dev.yaml", 5, "did you mean 'base_url'?")


def test_a_package_that_is_broken_is_named(tmp_path: Path, installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "gitune_acme", raising=False)
    (tmp_path / "site" / "gitune_acme.py").write_text("import no_such_module\n")
    with pytest.raises(UserError, match="gitune-acme"):
        providers.provider_class("acme")
