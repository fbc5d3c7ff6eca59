"""The ray provider passes the suite that every provider passes, on a real cluster behind a faulty wire."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from gitune.errors import QuotaExceeded, Rejected, Unauthorized
from gitune.providers.base import Job, TrainingRequest
from gitune.providers.ray import RayProvider, RaySettings
from gitune.testing import ProviderConformance
from gitune.testing.conformance import LIMIT_AT_ONCE, LIMIT_IN_ALL
from gitune.training.store_job import Store
from tests.journey import tiny_base_model, wait_until
from tests.providers.ray_world import KEY_VARIABLE, RayWorld
from tests.servers.ray import TOKEN, RayProxy, ray_cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with ray_cluster() as url:
        yield url


@pytest.fixture
def world(cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RayWorld]:
    monkeypatch.setenv(KEY_VARIABLE, TOKEN)
    with RayProxy(cluster) as proxy:
        yield RayWorld(proxy, tmp_path)
        proxy.stop_jobs()


@pytest.mark.slow
class TestRay(ProviderConformance):
    # each is two jobs of the cluster; which words are which kind of quota, other providers' suites say without --long
    @pytest.mark.parametrize(
        ("words", "kind"),
        [(LIMIT_AT_ONCE, "concurrent"), pytest.param(LIMIT_IN_ALL, "lifetime", marks=pytest.mark.long)],
    )
    def test_accepted_and_then_failed_for_a_quota_is_a_quota(self, world: RayWorld, words: str, kind: str) -> None:
        super().test_accepted_and_then_failed_for_a_quota_is_a_quota(world, words, kind)

    @pytest.mark.long
    def test_accepted_and_then_failed_for_our_data_is_our_mistake(self, world: RayWorld) -> None:
        super().test_accepted_and_then_failed_for_our_data_is_our_mistake(world)

    @pytest.mark.long
    def test_a_finished_job_names_its_model(self, world: RayWorld) -> None:
        super().test_a_finished_job_names_its_model(world)

    @pytest.mark.long
    def test_what_a_job_said_stays_said(self, world: RayWorld) -> None:
        super().test_what_a_job_said_stays_said(world)

    @pytest.mark.long
    def test_all_jobs_are_those_of_the_account(self, world: RayWorld) -> None:
        super().test_all_jobs_are_those_of_the_account(world)


def running(world: RayWorld) -> Job:
    """A job that has started to train and would take a minute."""
    world.tell_training(seconds=60)
    submit(world)
    return until(world, lambda found: found.status == "running" and found.progress == 0.5)


def until(world: RayWorld, condition: Callable[[Job], bool]) -> Job:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        job = world.provider().find_job(world.request().key)
        if job is not None and condition(job):
            return job
        time.sleep(0.1)
    raise AssertionError(f"it never came to that: {job}")


def driver_of(job: Job) -> psutil.Process:
    """The living job's script."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            if command[-1:] == [job.job_id] and Path(command[0]).name.startswith("python"):
                return process
    raise AssertionError(f"no process of {job.job_id}")


def submit(world: RayWorld, **settings: Any) -> Job:
    provider = RayProvider(world.settings(**settings), world.root / "clone")
    return provider.submit_job(world.request(), world.dataset())


@pytest.mark.slow
class TestSpecialToRay:
    def test_a_job_carries_its_whole_key(self, world: RayWorld) -> None:
        key = world.request().key
        job = submit(world)
        told = world.proxy.forward("GET", f"/api/jobs/{job.job_id}", headers={"Authorization": f"Bearer {TOKEN}"})
        info = json.loads(told.body)
        assert (job.job_id, info["metadata"]) == (f"gitune-{key[:16]}", {"gitune_key": key})

    def test_a_head_that_forgot_its_jobs_is_not_paid_twice(self, world: RayWorld) -> None:
        job = submit(world)
        world.finish(job)
        world.proxy.forgetful = True
        assert world.provider().list_jobs([job.key])[job.key].status == "succeeded"
        assert submit(world).status == "succeeded"
        assert world.jobs() == 1

    def test_a_failure_is_remembered_when_the_head_forgot_it(self, world: RayWorld) -> None:
        world.accept_then_fail("Invalid file format")
        job = submit(world)
        world.finish(job)
        world.proxy.forgetful = True
        found = world.provider().find_job(job.key)
        assert found is not None
        assert (found.status, type(found.error)) == ("failed", Rejected)

    def test_many_at_the_same_moment_submit_one_job(self, world: RayWorld) -> None:
        start = threading.Barrier(4)

        def race(_number: int) -> Job:
            start.wait()
            return world.provider().submit_job(world.request(), world.dataset())

        with ThreadPoolExecutor(4) as pool:
            found = {job.job_id for job in pool.map(race, range(4))}
        assert len(found) == world.jobs() == 1

    @pytest.mark.long
    def test_a_job_that_waits_for_room_can_be_cancelled_and_submitted_anew(self, world: RayWorld) -> None:
        first = submit(world, cpus=1000)
        found = world.provider().find_job(first.key)
        assert found is not None
        assert found.status == "queued"
        assert found.detail == "waiting for the cluster"
        world.provider().cancel_job(first.job_id)  # Ray stops it when its turn comes, which is never
        found = world.provider().find_job(first.key)
        assert found is not None
        assert found.status == "cancelled"
        second = submit(world)
        assert second.job_id == f"{first.job_id}-2"
        world.finish(second)
        assert world.provider().list_jobs([first.key])[first.key].job_id == second.job_id

    @pytest.mark.long
    def test_a_running_job_tells_how_far_it_is_and_stops(self, world: RayWorld) -> None:
        job = running(world)
        assert (job.detail, job.progress) == ("training", 0.5)
        assert job.seconds is not None
        process = driver_of(job)
        world.provider().cancel_job(job.job_id)
        found = world.provider().find_job(job.key)
        assert found is not None
        assert found.status == "cancelled"
        process.wait(timeout=20)

    def test_a_killed_job_is_lost_and_submitted_anew(self, world: RayWorld) -> None:
        job = running(world)
        driver_of(job).kill()
        lost = until(world, lambda found: not found.live)
        assert (lost.status, lost.error) == ("lost", None)
        world.tell_training(seconds=0.1)
        again = submit(world)
        assert again.job_id == f"{job.job_id}-2"
        world.finish(again)

    def test_a_job_that_is_killed_again_and_again_is_given_up(self, world: RayWorld) -> None:
        ends = []
        for _ in range(5):
            world.proxy.says[submit(world, cpus=1000).job_id] = {"status": "FAILED", "driver_exit_code": 137}
            found = world.provider().find_job(world.request().key)
            assert found is not None
            ends.append((found.status, str(found.error)))
        assert ends[:4] == [("lost", "None")] * 4
        assert ends[4][0] == "failed"
        assert "killed 5 times" in ends[4][1]

    def test_no_room_in_time_is_a_quota(self, world: RayWorld) -> None:
        job = submit(world, cpus=1000)
        timeout = {"status": "FAILED", "error_type": "JOB_SUPERVISOR_ACTOR_START_TIMEOUT", "end_time": 1}
        world.proxy.says[job.job_id] = timeout
        found = world.provider().find_job(job.key)
        assert found is not None
        assert isinstance(found.error, QuotaExceeded)
        assert found.error.kind == "concurrent"

    def test_an_interpreter_that_is_not_there_says_what_to_set(self, world: RayWorld) -> None:
        job = submit(world, python="/no/such/python")
        failed = until(world, lambda found: not found.live)
        assert (failed.job_id, failed.status) == (job.job_id, "failed")
        assert failed.error is not None
        assert "store and python" in str(failed.error.hint)

    def test_the_token_may_come_as_rays_users_know_it(self, world: RayWorld, monkeypatch: pytest.MonkeyPatch) -> None:
        provider = RayProvider(world.settings(key_variable=None), world.root / "clone")
        with pytest.raises(Unauthorized) as raised:
            provider.find_job(world.request().key)
        assert "RAY_AUTH_TOKEN" in str(raised.value.hint)
        monkeypatch.setenv("RAY_JOB_HEADERS", json.dumps({"Authorization": f"Bearer {TOKEN}"}))
        assert provider.find_job(world.request().key) is None
        code = (
            "from pathlib import Path\n"
            "from gitune.providers.ray import RayProvider, RaySettings\n"
            f"print(RayProvider(RaySettings(store={world.store!r}), Path('.')).find_job('a' * 64))"
        )
        environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_ADDRESS": world.proxy.url}
        del environment["RAY_JOB_HEADERS"]
        command = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}"]
        done = subprocess.run(command, env=environment, cwd=world.root, capture_output=True, text=True, check=False)
        assert done.stdout.strip() == "None", done.stderr


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # torch, transformers and peft deprecate each other's calls
def test_the_real_script_trains_is_killed_goes_on_and_its_model_answers(world: RayWorld, tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="the extra 'local' is not installed")
    from gitune.inference import LocalModel

    base_model = tiny_base_model(tmp_path / "base-model")
    # 320 steps take longer than the two seconds between looks of the job's script
    values = {**world.request().hyperparameters, "lora_layers": None, "epochs": 160, "save_every": 20}
    request = TrainingRequest("ray", str(base_model), "lora", values, world.request().fingerprint)
    settings = RaySettings(base_url=world.proxy.url, key_variable=KEY_VARIABLE, usd_per_hour=36.0)
    provider = RayProvider(settings, tmp_path / "clone")  # interpreter and store are the defaults
    assert provider.check(request) == []
    store = Store.open(f"file://{tmp_path}/clone/.gitune/ray")
    job_folder = f"jobs/{request.key[:16]}"

    first = provider.submit_job(request, world.dataset())
    whole = tmp_path / "clone/.gitune/ray" / job_folder / "checkpoints"
    wait_until(lambda: any(whole.glob("*/trainer_state.json")), "a whole checkpoint is in the store", seconds=60)
    driver_of(first).kill()
    wait_until(lambda: (provider.find_job(request.key) or first).status == "lost", "Ray notices")

    second = provider.submit_job(request, world.dataset())
    resumed = wait_until(
        lambda: (
            (status := store.read_json(f"{job_folder}/status.json") or {}).get("submission") == second.job_id
            and status.get("resumed_from")
        ),
        "it goes on from the checkpoint",
    )
    assert resumed >= 20
    wait_until(lambda: not (provider.find_job(request.key) or second).live, "the job ends")
    job = provider.find_job(request.key)
    assert job is not None
    assert job.status == "succeeded", job.error
    assert job.model_id is not None
    assert job.seconds is not None
    assert job.cost_usd == pytest.approx(job.seconds / 100, abs=1e-6)

    target = provider.chat_target(job.model_id)
    assert target.adapter == tmp_path / "clone" / ".gitune" / "models" / request.key[:16]
    answer = LocalModel.open(target.base_model, target.adapter).answer([{"role": "user", "content": "hello"}], 3)
    assert answer.completion_tokens > 0
