"""The huggingface provider passes the suite that every provider passes, against a local Hub with Jobs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import ValidationError

from gitune.errors import NotFound, ProviderError, QuotaExceeded, Rejected, Unauthorized
from gitune.prices import HourPrice, Tokens
from gitune.providers.base import Job, TrainingRequest, short
from gitune.providers.huggingface import HuggingFaceProvider, HuggingFaceSettings
from gitune.testing import Fault, ProviderConformance
from tests.journey import tiny_base_model
from tests.servers.huggingface import CENTS_A_MINUTE, HuggingFaceServer, run_job

BASE_MODEL = "tiny-org/Tiny-Llama-1M"
EXAMPLE = {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "world"}]}


class HuggingFaceWorld:
    """An account on a local Hub, and a repository that uses it."""

    has_wire = True

    def __init__(self, server: HuggingFaceServer, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server, self.root = server, root / "clone"
        self.secrets = (server.token,)
        self._other = root / "other-clone"
        self._monkeypatch = monkeypatch
        monkeypatch.setenv("HF_TOKEN", server.token)
        server.add_repo("models", BASE_MODEL, {"config.json": b"{}"}, private=False)
        folder = self.dataset()
        folder.mkdir(parents=True)
        (folder / "train.jsonl").write_text(f"{json.dumps(EXAMPLE)}\n" * 10)
        (folder / "validation.jsonl").write_text(f"{json.dumps(EXAMPLE)}\n")

    def provider(self, **block: Any) -> HuggingFaceProvider:
        settings = HuggingFaceSettings(base_url=self.server.url, timeout_seconds=0.5, **block)
        return HuggingFaceProvider(settings, self.root)

    def second_clone(self) -> HuggingFaceProvider:
        settings = HuggingFaceSettings(base_url=self.server.url, timeout_seconds=0.5)
        return HuggingFaceProvider(settings, self._other)

    def without_credentials(self) -> HuggingFaceProvider:
        self._monkeypatch.delenv("HF_TOKEN")
        return self.provider()

    def request(self, number: int = 0) -> TrainingRequest:
        values = {**HuggingFaceProvider.defaults.hyperparameters, "seed": number}
        return TrainingRequest("huggingface", BASE_MODEL, "lora", values, "f" * 64)

    def refused_request(self) -> TrainingRequest:
        return TrainingRequest("huggingface", "./a/folder", "lora", {"epochs": -1}, "f" * 64)

    def dataset(self) -> Path:
        return self.root / "dataset"

    def finish(self, job: Job) -> None:
        self.server.jobs.finish(job.job_id)

    def calls(self) -> int:
        return len(self.server.requests)

    def jobs(self) -> int:
        return len(self.server.jobs.all)

    def uploads(self) -> int:
        return self.server.uploads

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


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HuggingFaceWorld]:
    with HuggingFaceServer() as server:
        yield HuggingFaceWorld(server, tmp_path, monkeypatch)


class TestHuggingFace(ProviderConformance):
    """All of it."""


def submit(world: HuggingFaceWorld, provider: HuggingFaceProvider | None = None) -> Job:
    return (provider or world.provider()).submit_job(world.request(), world.dataset())


def sent(world: HuggingFaceWorld) -> dict[str, Any]:
    """The last job as it was posted."""
    return next(r.json for r in reversed(world.server.requests) if r.method == "POST" and r.path == "/api/jobs/acme")


# --- what is sent


def test_a_job_names_its_key_time_out_and_hardware_and_hides_the_token(world: HuggingFaceWorld) -> None:
    submit(world, world.provider(flavor="a10g-small", timeout="90m"))
    spec = sent(world)
    assert spec["labels"]["gitune-key"] == world.request().key
    assert (spec["flavor"], spec["timeoutSeconds"]) == ("a10g-small", 5400)
    assert spec["secrets"] == {"HF_TOKEN": world.server.token}
    assert world.server.token not in json.dumps([spec["command"], spec["environment"]])
    assert json.loads(spec["environment"]["GITUNE_CONFIG"])["hyperparameters"] == world.request().hyperparameters


def test_data_and_scripts_are_private_and_named_by_their_content(world: HuggingFaceWorld) -> None:
    submit(world)
    repo = world.server.repos["datasets", "acme/gitune-datasets"]
    assert repo.private
    names = sorted(name.split("-")[0] for name in repo.files() if name != ".gitattributes")
    assert names == ["gitune", "gitune", "hub_job", "sft"]
    assert all(f"/gitune/{name}" in " ".join(sent(world)["command"]) for name in repo.files() if "-" in name)


def test_another_namespace_is_billed_and_holds_everything(world: HuggingFaceWorld) -> None:
    provider = world.provider(namespace="our-org")
    job = submit(world, provider)
    world.finish(job)
    found = provider.find_job(job.key)
    assert found is not None
    assert found.model_id == f"our-org/gitune-{short(job.key)}"
    assert ("datasets", "our-org/gitune-datasets") in world.server.repos


def test_whose_token_it_is_is_asked_once(world: HuggingFaceWorld) -> None:
    for _ in range(3):
        submit(world)
    assert [request.path for request in world.server.requests].count("/api/whoami-v2") == 1


@pytest.mark.parametrize("block", [{"timeout": "0h"}, {"timeout": "6"}, {"flavor": "A10G"}, {"namespace": "a/b"}])
def test_a_block_that_makes_no_sense_is_refused(block: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        HuggingFaceSettings(**block)


# --- before a job is paid for


def test_a_gated_base_model_is_refused_before_a_job_is_paid_for(world: HuggingFaceWorld) -> None:
    world.server.repos["models", BASE_MODEL].gated = True
    with pytest.raises(Unauthorized) as raised:
        submit(world)
    assert f"https://huggingface.co/{BASE_MODEL}" in (raised.value.hint or "")
    assert world.jobs() == 0


def test_a_base_model_that_is_not_there_is_our_mistake(world: HuggingFaceWorld) -> None:
    del world.server.repos["models", BASE_MODEL]
    with pytest.raises(Rejected, match=BASE_MODEL):
        submit(world)
    assert world.jobs() == 0


def test_no_credits_is_a_quota_that_does_not_come_back(world: HuggingFaceWorld) -> None:
    world.plant(Fault("status", 402, "Pre-paid credit balance is insufficient"), on="submit")
    with pytest.raises(QuotaExceeded) as raised:
        submit(world)
    assert raised.value.kind == "lifetime"
    assert "billing" in (raised.value.hint or "")


def test_check_names_what_is_wrong(world: HuggingFaceWorld) -> None:
    problems = world.provider().check(world.refused_request())
    assert {problem.file for problem in problems} == {"epochs", "base_model"}


def test_an_estimate_is_the_flavours_price_by_its_time(world: HuggingFaceWorld) -> None:
    request = TrainingRequest("huggingface", "meta-llama/Llama-3.1-8B", "lora", world.request().hyperparameters, "f")
    estimate = world.provider().estimate(request, Tokens(1_000_000))
    assert estimate.usd is not None
    assert estimate.minutes is not None
    assert estimate.usd[1] == pytest.approx(estimate.minutes[1] / 60 * 1.5)  # a10g-large


# --- what comes back


def test_a_job_costs_every_minute_begun_at_the_flavours_price(world: HuggingFaceWorld) -> None:
    world.server.jobs.duration = 90.5
    job = submit(world)
    assert job.cost_usd is None
    world.finish(job)
    found = world.provider().find_job(job.key)
    assert found is not None
    assert (found.seconds, found.cost_usd) == (90, pytest.approx(2 * 0.025))
    assert world.provider().hardware_prices()["a10g-large"] == pytest.approx(1.5)


def test_an_estimate_takes_the_live_price_where_the_hub_answers(
    world: HuggingFaceWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = TrainingRequest(
        "huggingface", "meta-llama/Llama-3.1-8B", "lora", dict(world.request().hyperparameters), "f"
    )
    monkeypatch.setitem(CENTS_A_MINUTE, "a10g-large", 5.0)  # twice the table's
    live = world.provider().estimate(request, Tokens(1_000_000)).usd
    world.server.plant(Fault("status", 503))
    table = world.provider().estimate(request, Tokens(1_000_000)).usd
    assert live is not None
    assert table is not None
    assert live == pytest.approx([2 * usd for usd in table])
    own = world.provider(prices={"a10g-large": HourPrice(usd_per_hour=15.0, bf16_tflops=70)})
    assert own.estimate(request, Tokens(1_000_000)).usd == pytest.approx([10 * usd for usd in table])


def test_jobs_beyond_the_first_page_are_listed(world: HuggingFaceWorld) -> None:
    world.server.page_size = 2
    keys = [world.provider().submit_job(world.request(n), world.dataset()).key for n in range(5)]
    assert set(world.second_clone().list_jobs(keys)) == set(keys)


def test_a_model_whose_job_the_hub_forgot_is_adopted(world: HuggingFaceWorld) -> None:
    job = submit(world)
    world.finish(job)
    world.provider().find_job(job.key)
    world.server.jobs.all.clear()
    adopted = world.second_clone().submit_job(world.request(), world.dataset())
    assert (adopted.status, adopted.model_id) == ("succeeded", f"acme/gitune-{short(job.key)}")
    assert world.jobs() == 0


def test_a_timeout_says_which_setting_to_raise(world: HuggingFaceWorld) -> None:
    world.accept_then_fail("Job timeout")
    job = submit(world)
    world.finish(job)
    found = world.provider().find_job(job.key)
    assert found is not None
    assert type(found.error) is ProviderError
    assert "`timeout`" in (found.error.hint or "")


def test_an_earlier_jobs_outcome_is_not_taken_for_this_ones(world: HuggingFaceWorld) -> None:
    for words in ("Invalid example", "Job failed with exit code: 137. Reason: OOMKilled"):
        world.accept_then_fail(words)
        job = submit(world)
        world.finish(job)
        world.server.clock.advance(60)
    found = world.provider().find_job(world.request().key)
    assert found is not None
    assert found.error is not None
    assert not isinstance(found.error, Rejected)
    assert "OOMKilled" in found.error.message


# --- the adapter


def test_the_adapter_is_downloaded_once_and_then_needs_no_network(world: HuggingFaceWorld) -> None:
    job = submit(world)
    world.finish(job)
    model_id = f"acme/gitune-{short(job.key)}"
    target = world.provider().chat_target(model_id)
    assert target.adapter is not None
    assert (target.adapter / "adapter_model.safetensors").read_bytes() == b"weights"
    source = json.loads((target.adapter / "source.json").read_text())
    assert source["revision"] == world.server.repos["models", model_id].sha
    calls = world.calls()
    assert world.provider().chat_target(model_id) == target
    assert world.calls() == calls


def test_a_download_that_breaks_off_leaves_nothing_half_done(world: HuggingFaceWorld) -> None:
    job = submit(world)
    world.finish(job)
    model_id = f"acme/gitune-{short(job.key)}"
    provider = world.provider()
    assert provider.get_model(model_id) is not None
    del world.server.repos["models", model_id].commits[world.server.repos["models", model_id].sha]["training.json"]
    with pytest.raises(NotFound):
        provider.chat_target(model_id)
    assert list((world.root / ".gitune" / "models").glob("acme*[!k]")) == []


def test_archiving_tags_the_repository(world: HuggingFaceWorld) -> None:
    job = submit(world)
    world.finish(job)
    model_id = f"acme/gitune-{short(job.key)}"
    world.provider().archive_model(model_id)
    assert list(world.server.repos["models", model_id].tags) == ["gitune-archived"]


# --- the job itself


@pytest.fixture(scope="module")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base_model(tmp_path_factory.mktemp("base-model"))


def really_run(
    world: HuggingFaceWorld, job: Job, folder: Path, training: str | None = None
) -> subprocess.CompletedProcess[str]:
    return run_job(world.server, job.job_id, folder, training)


def test_a_training_that_is_killed_is_a_crash_and_not_our_mistake(world: HuggingFaceWorld, tmp_path: Path) -> None:
    job = submit(world)
    assert really_run(world, job, tmp_path, training="kill -9 $$").returncode != 0
    found = world.provider().find_job(job.key)
    assert found is not None
    assert found.status == "failed"
    assert type(found.error) is ProviderError
    assert "exit code -9" in found.error.message
    assert f"/jobs/acme/{job.job_id}" in (found.error.hint or "")


def test_an_adapter_that_the_hub_does_not_take_at_once_is_pushed_again(world: HuggingFaceWorld, tmp_path: Path) -> None:
    job = submit(world)
    world.server.commits_to_refuse = 1
    training = """mkdir "$7/model"; echo '{"base_model": "a/b"}' > "$7/model/training.json"; exit 0"""
    assert really_run(world, job, tmp_path, training).returncode == 0
    assert world.provider().get_model(f"acme/gitune-{short(job.key)}") is not None


@pytest.mark.slow
def test_a_job_really_trains_and_pushes_its_adapter(world: HuggingFaceWorld, base_model: Path, tmp_path: Path) -> None:
    world.server.add_folder(BASE_MODEL, base_model)
    job = submit(world)
    process = really_run(world, job, tmp_path)
    assert process.returncode == 0, process.stderr
    assert world.server.token not in process.stdout + process.stderr
    found = world.provider().find_job(job.key)
    assert found is not None
    assert found.status == "succeeded"
    assert found.model_id
    assert world.server.repos["models", found.model_id].private
    model = world.provider().get_model(found.model_id)
    assert model is not None
    assert (model.base_model, model.facts["key"], model.facts["examples"]) == (BASE_MODEL, job.key, 10)
    target = world.provider().chat_target(found.model_id)
    assert target.adapter is not None
    assert (target.adapter / "adapter_model.safetensors").stat().st_size > 1000

    commits = len(world.server.repos["models", found.model_id].commits)
    again = really_run(world, job, tmp_path)  # the Hub starts it again
    assert (again.returncode, "already" in again.stdout) == (0, True)
    assert len(world.server.repos["models", found.model_id].commits) == commits


@pytest.mark.slow
@pytest.mark.long
def test_a_job_whose_data_is_wrong_says_so(world: HuggingFaceWorld, base_model: Path, tmp_path: Path) -> None:
    world.server.add_folder(BASE_MODEL, base_model)
    long = {"messages": [EXAMPLE["messages"][0], {"role": "assistant", "content": "word " * 3000}]}
    (world.dataset() / "train.jsonl").write_text(f"{json.dumps(long)}\n")
    job = submit(world)
    assert really_run(world, job, tmp_path).returncode == 1
    found = world.provider().find_job(job.key)
    assert found is not None
    assert found.status == "failed"
    assert isinstance(found.error, Rejected)
    assert "max_length" in found.error.message
