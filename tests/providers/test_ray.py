"""What is special to Ray and needs no cluster: settings, checks, addresses, the job's script, the store."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gitune.errors import NotFound, ProviderError, Unauthorized, Unavailable
from gitune.providers.base import TrainingKey, TrainingRequest
from gitune.providers.ray import RayProvider, RaySettings
from gitune.training import store_job
from gitune.training.base_model import DEFAULT_BASE_MODEL
from gitune.training.store_job import Store
from tests import s3
from tests.journey import wait_until
from tests.providers.ray_world import stub_python

KEY = TrainingKey("a" * 64)
NAME = "gitune-" + "a" * 16


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_JOB_HEADERS"):
        monkeypatch.delenv(name, raising=False)


def request(base_model: str = DEFAULT_BASE_MODEL, **hyperparameters: Any) -> TrainingRequest:
    values = {**RayProvider.defaults.hyperparameters, **hyperparameters}
    return TrainingRequest("ray", base_model, "lora", values, "f" * 64)


def problems(root: Path, wanted: TrainingRequest, **settings: Any) -> list[str]:
    return sorted(problem.file for problem in RayProvider(RaySettings(**settings), root).check(wanted))


def test_defaults_are_for_a_cluster_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems(tmp_path, request()) == []
    assert problems(tmp_path, request(), base_url="http://ray.example:8265") == ["base_model", "store"]
    monkeypatch.setenv("RAY_ADDRESS", "https://ray.example")
    assert problems(tmp_path, request()) == ["base_model", "store"]
    assert problems(tmp_path, request(), base_url="http://localhost:8265") == []  # the block wins
    assert problems(tmp_path, request("org/model"), store="s3://bucket/gitune") == []


def test_a_forwarded_port_is_not_this_machine(tmp_path: Path) -> None:
    assert problems(tmp_path, request(), store="s3://bucket/gitune") == ["base_model"]


def test_wrong_hyperparameters_are_found(tmp_path: Path) -> None:
    assert problems(tmp_path, request(epoch=3, batch_size=0)) == ["batch_size", "epoch"]


@pytest.mark.parametrize(
    "block",
    [
        {"cpus": 0},
        {"cpus": "4"},
        {"gpus": -1},
        {"gpus": 1.5},
        {"store": "bucket/gitune"},
        {"store": "s3://key:secret@bucket"},
        {"store": "simplecache::s3://bucket"},
        {"store": "s4://bucket"},
        {"base_url": "ray://head:10001"},
        {"pip": ["trl"], "image": "org/image"},
        {"gpu": 1},
    ],
)
def test_wrong_settings_are_refused(block: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RaySettings.model_validate(block)


def test_settings_as_a_stack_has_them() -> None:
    block = {"cpus": 4, "gpus": 0.5, "pip": ["trl>=1.16"], "store": "gs://bucket/a", "usd_per_hour": 2.5}
    assert RaySettings.model_validate(block).pip == ("trl>=1.16",)


@pytest.mark.parametrize("address", ["auto", "10.0.0.1:6379", "ray://head:10001"])
def test_an_address_that_is_not_the_dashboards_says_what_is(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    provider = RayProvider(RaySettings(), tmp_path)
    with pytest.raises(Unauthorized) as raised:
        provider.find_job(KEY)
    assert "8265" in str(raised.value.hint)
    assert [problem.file for problem in provider.check(request())] == ["RAY_ADDRESS"]


def test_nobody_at_the_address_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as raised:
        RayProvider(RaySettings(base_url="http://127.0.0.1:1"), tmp_path).find_job(KEY)
    assert "http://127.0.0.1:1" in raised.value.message


def test_headers_that_are_not_json_are_refused_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_HEADERS", "Authorization: planted-secret")
    with pytest.raises(Unauthorized) as raised:
        RayProvider(RaySettings(), tmp_path).find_job(KEY)
    assert "planted-secret" not in f"{raised.value} {raised.value.hint}"


def test_a_store_without_its_package_says_which(tmp_path: Path) -> None:
    with pytest.raises(Unauthorized) as raised:
        RayProvider(RaySettings(store="abfs://container/a"), tmp_path).find_job(KEY)
    assert "adlfs" in raised.value.message


# --- the store


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    with s3.served() as url:
        yield url


@pytest.fixture(params=["file", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "s3":
        request.getfixturevalue("s3_server")
        return Store.open(f"s3://{s3.BUCKET}/{tmp_path.name}")
    return Store.open(f"{request.param}://{tmp_path}/store")


def test_a_file_is_added_once_by_its_content(store: Store, tmp_path: Path) -> None:
    path = store.add(b"content")
    assert store.add(b"content") == path
    assert (store.read(path), store.names("data")) == (b"content", [path.removeprefix("data/")])
    store.fetch(path, path.removeprefix("data/"), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"content"
    with pytest.raises(ValueError, match="not the one"):
        store.fetch(path, "0" * 64, tmp_path / "copy")


def test_files_and_folders(store: Store) -> None:
    assert (store.read("jobs/a/x"), store.read_json("jobs/a/x"), store.names("jobs"), store.files("jobs")) == (
        None,
        None,
        [],
        [],
    )
    store.write("jobs/a/b/c", b"torn {")
    store.write_json("jobs/a/d", {"e": 1})
    assert (store.names("jobs/a"), store.files("jobs/a")) == (["b", "d"], ["b/c", "d"])
    assert (store.read_json("jobs/a/b/c"), store.read_json("jobs/a/d")) == (None, {"e": 1})
    store.remove("jobs/a/b")
    store.remove("jobs/a/b")
    assert store.files("jobs") == ["a/d"]


# --- the job's script, as a cluster runs it


class Cluster:
    """Runs the script on this machine, with a training that takes no time."""

    def __init__(self, folder: Path, store: str | None = None) -> None:
        self.store = Store.open(store or f"file://{folder}/store")
        self.folder = f"jobs/{'a' * 16}"
        self._python = stub_python(folder / "python")
        self._told = folder / "python" / "told.json"
        files = {name: self.store.add(name.encode()) for name in ("sft.py", "train.jsonl")}
        self.config = {
            "key": KEY,
            "base_model": "org/model",
            "load": "org/model",
            "method": "lora",
            "hyperparameters": {},
            "fingerprint": "f" * 64,
            "files": {**files, "validation.jsonl": self.store.add(b"")},
            "submission": NAME,
        }
        self.store.write_json(f"{self.folder}/config.json", self.config)

    def tell(self, **facts: Any) -> None:
        self._told.write_text(json.dumps(facts))

    def start(self, submission: str = NAME) -> subprocess.Popen[bytes]:
        arguments = ["-", self.store.url, "a" * 16, submission]
        return subprocess.Popen([self._python, store_job.__file__, *arguments])

    def read(self, name: str) -> dict[str, Any]:
        return self.store.read_json(f"{self.folder}/{name}.json") or {}


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def test_the_adapter_and_the_outcome_are_put(cluster: Cluster) -> None:
    assert cluster.start().wait() == 0
    outcome = cluster.read("outcome")
    assert (outcome["status"], outcome["key"], outcome["submission"]) == ("succeeded", KEY, NAME)
    assert cluster.store.files(outcome["model"]) == sorted(outcome["files"])
    assert outcome["training"]["base_model"] == "org/model"
    assert cluster.store.files(f"{cluster.folder}/checkpoints") == []


def test_what_is_trained_is_not_trained_again(cluster: Cluster) -> None:
    assert cluster.start().wait() == 0
    outcome = cluster.read("outcome")
    cluster.tell(fails="it would fail now")
    assert cluster.start(f"{NAME}-2").wait() == 0
    assert cluster.read("outcome") == outcome


@pytest.mark.parametrize(("words", "kind", "code"), [("Invalid line", "rejected", 1), ("it broke", "crashed", 3)])
def test_a_failure_leaves_its_reason(words: str, kind: str, code: int, cluster: Cluster) -> None:
    cluster.tell(fails=words)
    assert cluster.start().wait() == code
    outcome = cluster.read("outcome")
    assert (outcome["status"], outcome["error"]) == ("failed", {"kind": kind, "message": words})


@pytest.mark.parametrize("change", [{"cancelled": True}, {"submission": f"{NAME}-2"}])
def test_a_submission_that_does_not_stand_trains_nothing(change: dict[str, Any], cluster: Cluster) -> None:
    cluster.store.write_json(f"{cluster.folder}/config.json", {**cluster.config, **change})
    assert cluster.start().wait() == 128 + signal.SIGTERM
    assert cluster.read("outcome") == {}


def test_cancelled_while_it_trained_it_leaves_no_outcome(cluster: Cluster) -> None:
    cluster.tell(seconds=1.2)
    process = cluster.start()
    wait_until(lambda: cluster.read("status"), "the status is in the store")
    cluster.store.write_json(f"{cluster.folder}/config.json", {**cluster.config, "cancelled": True})
    assert process.wait() == 128 + signal.SIGTERM
    assert cluster.read("outcome") == {}


def test_a_stopped_job_leaves_its_checkpoint_and_no_outcome(cluster: Cluster) -> None:
    cluster.tell(seconds=60)
    process = cluster.start()
    checkpoint = f"{cluster.folder}/checkpoints/checkpoint-3/trainer_state.json"
    wait_until(lambda: cluster.store.read(checkpoint), "the checkpoint is in the store")
    assert (cluster.read("status")["progress"], cluster.read("status")["submission"]) == (0.5, NAME)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    assert cluster.read("outcome") == {}
    assert cluster.store.read(checkpoint) is not None


def test_a_store_that_is_not_seen_from_there_is_said(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    cluster.store.remove(f"{cluster.folder}/config.json")
    assert cluster.start().wait() == 3
    assert "config.json cannot be read from here" in capfd.readouterr().err


# --- what is in the store needs no cluster


def test_what_was_trained_stays_trained_with_no_cluster_left(cluster: Cluster, tmp_path: Path) -> None:
    assert cluster.start().wait() == 0
    settings = RaySettings(base_url="http://127.0.0.1:1", store=cluster.store.url, usd_per_hour=3600.0)
    provider = RayProvider(settings, tmp_path / "clone")
    job = provider.find_job(KEY)
    assert job is not None
    assert (job.status, job.model_id, job.cost_usd) == ("succeeded", f"ray:{'a' * 16}", job.seconds)
    assert provider.list_jobs([KEY]) == {KEY: job}
    target = provider.chat_target(job.model_id)
    assert target.base_model == "org/model"
    assert target.adapter is not None
    assert (target.adapter / "adapter_config.json").is_file()
    assert not list(target.adapter.parent.glob(".tmp-*"))


def test_an_object_store_does_as_well(s3_server: str, tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, f"s3://{s3.BUCKET}/{tmp_path.name}")
    cluster.tell(seconds=60)
    process = cluster.start()
    checkpoint = f"{cluster.folder}/checkpoints/checkpoint-3/trainer_state.json"
    wait_until(lambda: cluster.store.read(checkpoint), "the checkpoint is in the store")
    process.terminate()
    assert process.wait() == 128 + signal.SIGTERM
    cluster.tell(seconds=0.1)
    assert cluster.start().wait() == 0
    settings = RaySettings(base_url="http://127.0.0.1:1", store=cluster.store.url)
    provider = RayProvider(settings, tmp_path / "clone")
    assert provider.list_jobs([KEY])[KEY].status == "succeeded"
    provider.archive_model(f"ray:{'a' * 16}")
    model = provider.get_model(f"ray:{'a' * 16}")
    assert model is not None
    assert model.archived
    adapter = provider.chat_target(f"ray:{'a' * 16}").adapter
    assert adapter is not None
    assert (adapter / "training.json").is_file()


def test_an_adapter_that_was_deleted_from_the_store_is_not_found(cluster: Cluster, tmp_path: Path) -> None:
    assert cluster.start().wait() == 0
    cluster.store.remove(cluster.read("outcome")["model"])
    with pytest.raises(NotFound) as raised:
        RayProvider(RaySettings(store=cluster.store.url), tmp_path / "clone").chat_target(f"ray:{'a' * 16}")
    assert cluster.store.url in raised.value.message


def test_an_adapter_that_was_changed_in_the_store_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    assert cluster.start().wait() == 0
    cluster.store.write(f"{cluster.read('outcome')['model']}/adapter_config.json", b'{"other": 1}')
    provider = RayProvider(RaySettings(store=cluster.store.url), tmp_path / "clone")
    with pytest.raises(ProviderError, match="SHA-256"):
        provider.chat_target(f"ray:{'a' * 16}")
    assert not list((tmp_path / "clone").rglob("adapter_config.json"))


def test_without_ray_installed_it_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "from pathlib import Path\n"
        "from gitune.providers.ray import RayProvider, RaySettings\n"
        "from gitune.errors import Unauthorized\n"
        f"try: RayProvider(RaySettings(), Path({str(tmp_path)!r})).find_job('a' * 64)\n"
        "except Unauthorized as error: print(error.hint)\n"
    )
    paths = ["-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}"]
    done = subprocess.run([sys.executable, *paths], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "pip install 'gitune[ray]'"
