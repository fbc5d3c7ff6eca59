"""The local provider: a job is a process that outlives its starter, found and counted through the kernel's locks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitune.errors import NotFound, ProviderError, QuotaExceeded, Rejected
from gitune.files import read_json, try_lock, write_atomic
from gitune.providers.base import Job, LocalTarget, TrainingKey, TrainingRequest, short
from gitune.providers.local import LocalProvider
from gitune.providers.settings import ProviderSettings
from tests.journey import tiny_base_model, wait_until

EXAMPLE = {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "world"}]}


@pytest.fixture(scope="module")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base_model(tmp_path_factory.mktemp("base-model"))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / "train.jsonl").write_text(json.dumps(EXAMPLE) + "\n")
    (folder / "validation.jsonl").write_text("")
    return folder


def open_local(root: Path) -> LocalProvider:
    return LocalProvider(ProviderSettings(), root)


def jobs_folder(root: Path) -> Path:
    return root / ".gitune" / "jobs"


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[LocalProvider]:
    found = open_local(tmp_path)
    yield found
    for job in jobs_folder(tmp_path).glob("*/config.json"):
        found.cancel_job(job.parent.name)


def request(base_model: Path, **hyperparameters: object) -> TrainingRequest:
    values = {**LocalProvider.defaults.hyperparameters, "lora_layers": None, **hyperparameters}
    return TrainingRequest("local", str(base_model), "lora", values, "f" * 64)


def ended(provider: LocalProvider, key: TrainingKey) -> Job:
    def look() -> Job | None:
        job = provider.find_job(key)
        return job if job is not None and not job.live else None

    job = wait_until(look, "the job ends")
    assert isinstance(job, Job)
    return job


def test_a_job_from_submit_to_chat_target(provider: LocalProvider, dataset: Path, base_model: Path) -> None:
    wanted = request(base_model)
    assert provider.find_job(wanted.key) is None
    submitted = provider.submit_job(wanted, dataset)
    assert (submitted.status, submitted.job_id) == ("running", short(wanted.key))
    again = provider.submit_job(wanted, dataset)  # running, or done by now: the same job
    assert again.job_id == submitted.job_id
    job = ended(provider, wanted.key)
    assert (job.status, job.cost_usd) == ("succeeded", 0.0)
    assert provider.list_jobs([wanted.key, TrainingKey("0" * 64)]) == {wanted.key: job}
    assert job.model_id is not None
    model = provider.get_model(job.model_id)
    assert model is not None
    assert (model.base_model, model.archived) == (str(base_model), False)
    assert isinstance(provider.chat_target(job.model_id), LocalTarget)
    provider.archive_model(job.model_id)
    archived = provider.get_model(job.model_id)
    assert archived is not None
    assert archived.archived
    provider.cancel_job(job.job_id)  # an ended job is left alone
    assert provider.submit_job(wanted, dataset).status == "succeeded"  # and never trained again


def test_one_job_at_a_time(provider: LocalProvider, dataset: Path, base_model: Path) -> None:
    first = provider.submit_job(request(base_model, epochs=1000), dataset)
    with pytest.raises(QuotaExceeded) as caught:
        provider.submit_job(request(base_model, seed=1), dataset)
    assert caught.value.kind == "concurrent"
    assert provider.find_job(request(base_model, seed=1).key) is None
    provider.cancel_job(first.job_id)
    provider.cancel_job(first.job_id)
    assert provider.find_job(first.key).status == "cancelled"  # type: ignore[union-attr]
    assert provider.submit_job(request(base_model, seed=1), dataset).status == "running"


def test_a_job_outlives_the_process_that_started_it(tmp_path: Path, dataset: Path, base_model: Path) -> None:
    wanted = request(base_model, epochs=30)
    code = f"""
import os
from pathlib import Path
from gitune.providers.base import TrainingRequest
from gitune.providers.local import LocalProvider
from gitune.providers.settings import ProviderSettings
request = TrainingRequest("local", {str(base_model)!r}, "lora", {dict(wanted.hyperparameters)!r}, "{"f" * 64}")
LocalProvider(ProviderSettings(), Path({str(tmp_path)!r})).submit_job(request, Path({str(dataset)!r}))
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    provider = open_local(tmp_path)
    job = provider.find_job(wanted.key)
    assert job is not None
    assert job.live
    assert ended(provider, wanted.key).status == "succeeded"


def test_a_dead_starter_leaves_no_half_job(tmp_path: Path) -> None:
    key = TrainingKey("a" * 64)
    (jobs_folder(tmp_path) / short(key)).mkdir(parents=True)
    (jobs_folder(tmp_path) / short(key) / "config.json").write_text('{"key":')  # as if a write had been torn
    assert open_local(tmp_path).find_job(key) is None


def test_keys_with_the_same_beginning_are_told_apart(tmp_path: Path) -> None:
    write_atomic(jobs_folder(tmp_path) / ("a" * 16) / "config.json", json.dumps({"key": "a" * 64}))
    provider = open_local(tmp_path)
    assert provider.find_job(TrainingKey("a" * 64)) is not None
    assert provider.find_job(TrainingKey("a" * 63 + "b")) is None


def _job(folder: Path, key: str, **status: object) -> Path:
    write_atomic(folder / key[:16] / "config.json", json.dumps({"key": key}))
    if status:
        write_atomic(folder / key[:16] / "status.json", json.dumps(status))
    return folder / key[:16]


def test_what_status_says_and_the_lock_denies_is_lost(tmp_path: Path) -> None:
    key = TrainingKey("a" * 64)
    folder = _job(jobs_folder(tmp_path), key, status="running", step=3)
    provider = open_local(tmp_path)
    assert provider.find_job(key).status == "lost"  # type: ignore[union-attr]
    lock = try_lock(folder / "lock")
    assert lock is not None
    with lock:
        assert provider.find_job(key).status == "running"  # type: ignore[union-attr]


@pytest.mark.parametrize(("kind", "error"), [("rejected", Rejected), ("crashed", ProviderError)])
def test_a_failed_job_says_what_kind_of_failure(kind: str, error: type[ProviderError], tmp_path: Path) -> None:
    key = TrainingKey("a" * 64)
    _job(jobs_folder(tmp_path), key, status="failed", error={"kind": kind, "message": "it broke"})
    job = open_local(tmp_path).find_job(key)
    assert job is not None
    assert (job.status, type(job.error), job.error.message) == ("failed", error, "it broke")  # type: ignore[union-attr]


def test_a_job_that_is_killed_again_and_again_is_given_up(tmp_path: Path, dataset: Path, base_model: Path) -> None:
    provider = open_local(tmp_path)
    wanted = request(base_model)
    folder = _job(jobs_folder(tmp_path), wanted.key, status="running", step=7)
    write_atomic(folder / "kills.json", json.dumps({"step": 7, "kills": 4}))
    job = provider.submit_job(wanted, dataset)
    assert job.status == "failed"
    assert "killed 5 times at step 7" in str(job.error)
    assert read_json(folder / "kills.json") is None


def test_a_resumed_job_took_the_time_of_all_its_processes(tmp_path: Path) -> None:
    key = TrainingKey("a" * 64)
    folder = _job(jobs_folder(tmp_path), key, status="succeeded")
    (folder / "model").mkdir()
    times = [("started", 0), ("checkpoint", 10), ("resumed", 40), ("finished", 45)]
    lines = [json.dumps({"event": name, "at": f"2026-11-22T10:00:{second:02}.000+00:00"}) for name, second in times]
    (folder / "events.jsonl").write_text("\n".join([*lines[:2], '{"event": "prog', *lines[2:]]) + "\n")
    job = open_local(tmp_path).find_job(key)
    assert job is not None
    assert job.seconds == 15.0


def test_what_is_not_there_is_not_found(provider: LocalProvider) -> None:
    assert provider.get_model("local:nothing") is None
    for call in (provider.cancel_job, provider.archive_model, provider.chat_target):
        with pytest.raises(NotFound):
            call("local:nothing")


def test_check_finds_wrong_hyperparameters_without_starting_anything(provider: LocalProvider, base_model: Path) -> None:
    problems = provider.check(request(base_model, epoch=3, batch_size=0))
    assert sorted(problem.file for problem in problems) == ["batch_size", "epoch"]
    assert provider.check(request(base_model)) == []
