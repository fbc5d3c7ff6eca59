"""Mistral, through its SDK, against a server that is held to its OpenAPI document."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from gitune.errors import ProviderError, QuotaExceeded, Rejected, Retired
from gitune.hosted import open_hosted
from gitune.prices import Tokens
from gitune.providers.base import HttpTarget, TrainingRequest, short
from gitune.testing import Fault, ProviderConformance
from tests.servers.base import Response
from tests.servers.jobs import Limits
from tests.servers.learned import UNTUNED
from tests.servers.mistral import KEY, MistralServer
from tests.servers.world import HttpWorld


class MistralWorld(HttpWorld):
    name = "mistral"
    base_model = "open-mistral-7b"
    hyperparameters = MappingProxyType({"epochs": 3, "learning_rate": 1e-4})
    server: MistralServer


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MistralWorld]:
    with MistralServer() as server:
        yield MistralWorld(server, tmp_path, monkeypatch, {"MISTRAL_API_KEY": KEY, "MISTRAL_BASE_URL": server.url})
        assert server.violations == []


class TestMistral(ProviderConformance):
    @pytest.fixture
    def world(self, world: MistralWorld) -> MistralWorld:
        return world


def test_the_status_reports_two_limits(world: MistralWorld) -> None:
    """Five jobs on an account that runs 2 at once and 3 for life: what happened on 2025-10-31."""
    world.server.jobs.limits = Limits(running=2, total=3)
    provider = world.provider()
    requests = [world.request(number) for number in range(5)]
    for number, request in enumerate(requests):
        provider.submit_job(request, world.dataset())
        if number >= 2:
            world.server.clock.advance(10_000)
    jobs = provider.list_jobs([request.key for request in requests])
    assert [jobs[request.key].status for request in requests] == [*["succeeded"] * 2, "failed", "succeeded", "failed"]
    kinds = [error.kind for error in (jobs[r.key].error for r in requests[2:]) if isinstance(error, QuotaExceeded)]
    assert kinds == ["concurrent", "lifetime"]


def test_all_jobs_are_asked_for_at_once(world: MistralWorld) -> None:
    provider = world.provider()
    requests = [world.request(number) for number in range(12)]
    for request in requests:
        provider.submit_job(request, world.dataset())
    before = world.calls()
    assert len(provider.list_jobs([request.key for request in requests])) == 12
    assert world.calls() == before + 1


@pytest.mark.parametrize("on", ["submit", "any"])
def test_a_retired_training_api_says_since_when_and_what_to_do(world: MistralWorld, on: Any) -> None:
    world.plant(Fault("status", 410), on=on)
    with pytest.raises(Retired, match=r"retired since July 2026 \(410") as raised:
        world.provider().submit_job(world.request(), world.dataset())
    assert "another candidate" in (raised.value.hint or "")
    assert "gitune adopt" in (raised.value.hint or "")


def test_a_base_model_that_is_not_there_is_our_mistake(world: MistralWorld) -> None:
    request = TrainingRequest("mistral", "open-mistral-8b", "lora", {"epochs": 3}, "f" * 64)
    with pytest.raises(Rejected, match=r"^Model not available for this type of fine-tuning \(completion\)\.$"):
        world.provider().submit_job(request, world.dataset())


def test_a_base_model_of_another_provider_is_found_without_a_call(world: MistralWorld) -> None:
    request = TrainingRequest("mistral", "meta-llama/Llama-3.1-8B", "lora", {"epochs": 3}, "f" * 64)
    assert [problem.file for problem in world.provider().check(request)] == ["base_model"]
    assert world.calls() == 0


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"detail": [{"loc": ["body", "job_in"], "msg": "Value error, no file", "type": "value_error"}]}, "no file"),
        ({"object": "error", "message": {"detail": [{"msg": "Field required"}]}}, "Field required"),
    ],
)
def test_each_form_of_an_error_is_read(
    world: MistralWorld, monkeypatch: pytest.MonkeyPatch, body: dict[str, Any], said: str
) -> None:
    monkeypatch.setattr(world.server, "authorize", lambda request: Response(422, body))
    with pytest.raises(Rejected, match=f"{said}$"):
        world.provider().find_job(world.request().key)


@pytest.mark.parametrize(
    ("status", "reasons", "error", "words"),
    [
        ("FAILED", True, ProviderError, "An internal error"),
        ("FAILED", False, ProviderError, "status is FAILED, and Mistral gives no reason"),
        ("FAILED_VALIDATION", False, Rejected, "status is FAILED_VALIDATION, and Mistral gives no reason"),
    ],
)
def test_why_a_job_failed(
    world: MistralWorld, status: str, reasons: bool, error: type[ProviderError], words: str
) -> None:
    world.server.fails_as, world.server.gives_reasons = status, reasons
    world.accept_then_fail("An internal error")
    job = world.provider().submit_job(world.request(), world.dataset())
    world.finish(job)
    found = world.provider().find_job(job.key)
    assert found is not None
    assert type(found.error) is error
    assert words in found.error.message


def test_jobs_of_other_kinds_and_without_a_suffix_are_passed_over(world: MistralWorld) -> None:
    first = world.provider().submit_job(world.request(), world.dataset())
    (mine,) = world.server.jobs.all.values()
    listed = world.server.said(mine)
    world.server.strangers = [
        {name: value for name, value in listed.items() if name != "suffix"},
        {**listed, "job_type": "classifier", "hyperparameters": {}},
        {"job_type": "distillation", "id": "new-kind"},
    ]
    keys = [first.key, world.request(1).key]
    assert set(world.second_clone().list_jobs(keys)) == {first.key}


def test_how_long_it_takes_is_told_while_it_trains(world: MistralWorld) -> None:
    world.server.jobs.limits = Limits(running=1, excess="queue")
    world.server.clock.now = time.time()
    provider = world.provider()
    running = provider.submit_job(world.request(), world.dataset())
    waiting = provider.submit_job(world.request(1), world.dataset())
    assert running.eta_seconds == pytest.approx(600, abs=30)
    assert waiting.eta_seconds is None


def test_what_travels_with_a_job(world: MistralWorld) -> None:
    world.provider().submit_job(world.request(), world.dataset())
    (job,) = world.server.jobs.all.values()
    assert job.facts["suffix"] == short(world.request().key)
    assert job.facts["hyperparameters"] == {"epochs": 3, "learning_rate": 1e-4}
    (name,) = (file["filename"] for file in world.server.files.values())
    assert name.startswith("gitune-")
    assert name.endswith(".jsonl")


def test_training_steps_take_the_place_of_epochs(world: MistralWorld) -> None:
    values = {"epochs": 3, "training_steps": 50, "learning_rate": 1e-4}
    request = TrainingRequest("mistral", "open-mistral-7b", "lora", values, "f" * 64)
    assert world.provider().check(request) == []
    world.provider().submit_job(request, world.dataset())
    (job,) = world.server.jobs.all.values()
    assert job.facts["hyperparameters"] == {"training_steps": 50, "learning_rate": 1e-4}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"epochs": 3, "learning_rat": 1}, "unknown hyperparameter 'learning_rat'"),
        ({"epochs": "3"}, "epochs must be a number above 0"),
        ({"epochs": float("inf")}, "epochs must be a number above 0"),
        ({"epochs": 3, "learning_rate": 2}, "learning_rate must be a number from 1e-08 to 1"),
        ({"epochs": 3, "seq_len": 50}, "seq_len must be a whole number from 100"),
        ({"epochs": None}, "epochs or training_steps must be given"),
    ],
)
def test_bad_hyperparameters_are_found_without_a_call(
    world: MistralWorld, values: dict[str, object], said: str
) -> None:
    problems = world.provider().check(TrainingRequest("mistral", "open-mistral-7b", "lora", values, "f" * 64))
    assert [problem.message.startswith(said) for problem in problems] == [True]
    assert world.calls() == 0


def test_a_small_job_is_estimated_at_the_minimum_and_billed_as_told(world: MistralWorld) -> None:
    provider = world.provider()
    assert provider.estimate(world.request(), Tokens(20_000)).usd == (4.0, 4.0, 4.0)
    assert provider.estimate(world.request()).usd is None
    job = provider.submit_job(world.request(), world.dataset())
    assert job.cost_usd is None
    world.finish(job)
    done = provider.find_job(job.key)
    assert done is not None
    assert done.cost_usd == 4.0
    assert done.seconds == 600.0


def test_the_model_answers_as_it_learned(world: MistralWorld) -> None:
    job = world.provider().submit_job(world.request(), world.dataset())
    world.finish(job)
    done = world.provider().find_job(job.key)
    assert done is not None
    assert done.model_id
    target = world.provider().chat_target(done.model_id)
    assert isinstance(target, HttpTarget)
    model = open_hosted(target)
    question = [{"role": "user", "content": "number 7"}]
    assert model.answer(question, 8).text == "seven"
    assert "".join(model.stream(question, 8)) == "seven"
    base = open_hosted(HttpTarget(target.protocol, target.base_url, target.base_model, "", target.key_variable))
    assert base.answer(question, 8).text == UNTUNED


def test_a_models_own_url_may_name_the_version(world: MistralWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISTRAL_BASE_URL", f"{world.server.url}/v1/")
    assert world.provider().find_job(world.request().key) is None
