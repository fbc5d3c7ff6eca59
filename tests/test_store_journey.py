"""Through the real engine: `up` publishes what it trains on, notices what is lost, and restores need no sources."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from gitune.state import FileState
from tests import journey, s3
from tests.conftest import Repository, example, jsonl
from tests.crashes import open_mistral

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return journey.tiny_base_model(tmp_path_factory.mktemp("base-model"))


def _files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def _recorded(repository: Repository, stack: str = "dev") -> str:
    """What the state says of the datasets, as text."""
    files = FileState.at(f"file://{repository.root}/.gitune/pulumi", repository.root, "gitune", stack)
    assert files is not None
    (datasets,) = [r for r in files.deployment()["resources"] if r["type"].endswith("gitune:Datasets")]
    return json.dumps(datasets["outputs"])


@contextmanager
def _no_network() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        yield


@pytest.mark.long
def test_a_published_dataset_outlives_its_sources(repository: Repository, base_model: Path) -> None:
    journey.add_tiny_agent(repository, base_model, epochs=1)
    first = journey.call(repository, "up", "--json")
    assert first.code == 0, first.err
    (published,) = (path for path in (repository.root / ".gitune/store").iterdir() if path.name != "spending")
    here = repository.root / ".gitune/datasets" / published.name
    content = _files(here)
    assert _files(published) == content
    assert '"store": ".gitune/store"' in _recorded(repository)
    assert f'"tiny": "{published.name}"' in _recorded(repository)
    assert str(repository.root) not in _recorded(repository)

    shutil.rmtree(repository.root / ".gitune/store")
    again = journey.call(repository, "up", "--json")
    assert (again.code, journey.outcome(again)["changes"]) == (0, []), again.err
    assert _files(published) == content
    assert len(journey.jobs(repository)) == 1

    shutil.rmtree(here)
    repository.write("agents/tiny/data/train.jsonl", jsonl([example("all is new", "intent_0")] * 1))
    restored = journey.call(repository, "dataset", "restore", published.name[:10])
    assert (restored.code, restored.out) == (0, f".gitune/datasets/{published.name}\n"), restored.err
    assert _files(here) == content


UP = ("up", "-s", "training", "--stop-after", "training", "--json")


@pytest.fixture
def stored_elsewhere(repository: Repository) -> Repository:
    """One agent whose dataset is published in a bucket."""
    journey.add_hosted_agents(repository, "mistral", 1)
    stack = yaml.safe_load((repository.root / "Pulumi.training.yaml").read_text())
    stack["config"]["gitune:store"] = f"s3://{s3.BUCKET}/team"
    repository.write("Pulumi.training.yaml", yaml.safe_dump(stack))
    return repository


def test_a_store_that_is_away_is_said_and_nothing_is_paid_for(
    stored_elsewhere: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3.served(), open_mistral(stored_elsewhere.root.parent, monkeypatch) as server:
        with _no_network():
            away = journey.call(stored_elsewhere, *UP)
        assert away.code == 1
        assert f"error: store s3://{s3.BUCKET}/team cannot be read: Could not connect" in away.err
        assert "\nhint: check gitune:store in Pulumi.<stack>.yaml" in away.err
        assert "Traceback" not in away.err
        assert server.jobs.all == {}


@pytest.mark.long
def test_what_is_published_needs_no_store_to_go_on(
    stored_elsewhere: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = stored_elsewhere
    with s3.served(), open_mistral(repository.root.parent, monkeypatch):
        back = journey.call(repository, *UP)
        assert (back.code, journey.outcome(back)["model"]["status"]) == (0, "succeeded"), back.err
        (here,) = (path for path in (repository.root / ".gitune/datasets").glob("*") if path.is_dir())
        assert f'"store": "s3://{s3.BUCKET}/team"' in _recorded(repository, "training")
        assert f'"agent-0": "{here.name}"' in _recorded(repository, "training")
        assert s3.SECRET not in _recorded(repository, "training")

        with _no_network():
            offline = journey.call(repository, *UP)
        assert (offline.code, journey.outcome(offline)["changes"]) == (0, []), offline.err

        content = _files(here)
        shutil.rmtree(here)
        restored = journey.call(repository, "dataset", "restore", here.name[:8], "-s", "training")
        assert (restored.code, _files(here)) == (0, content), restored.err
