"""OpenAI's protocol, through its SDK, against a server that is held to its OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gitune.errors import ProviderError, Rejected
from gitune.hosted import open_hosted
from gitune.prices import Tokens
from gitune.providers.base import HttpTarget, TrainingRequest
from gitune.testing import ProviderConformance
from tests.servers.jobs import Limits
from tests.servers.learned import UNTUNED
from tests.servers.openai import KEY, OpenAIServer
from tests.servers.world import HttpWorld

BASE = "gpt-4o-mini-2024-07-18"


class OpenAIWorld(HttpWorld):
    name = "openai"
    base_model = BASE
    server: OpenAIServer

    def request(self, number: int = 0) -> TrainingRequest:
        return TrainingRequest("openai", BASE, "lora", {"n_epochs": 3 + number}, "f" * 64)

    def refused_request(self) -> TrainingRequest:
        return TrainingRequest("openai", BASE, "lora", {"epochs": 3}, "f" * 64)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIWorld]:
    with OpenAIServer() as server:
        yield OpenAIWorld(server, tmp_path, monkeypatch, {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.url})
        assert server.violations == []


class TestOpenAI(ProviderConformance):
    @pytest.fixture
    def world(self, world: OpenAIWorld) -> OpenAIWorld:
        return world


def test_the_whole_training_key_travels_as_metadata(world: OpenAIWorld) -> None:
    world.provider().submit_job(world.request(), world.dataset())
    (job,) = world.server.jobs.all.values()
    assert job.facts["metadata"]["gitune_key"] == world.request().key
    assert job.facts["method"] == {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}}
    assert job.facts["suffix"] == world.request().key[:16]


def test_a_server_that_ignores_the_filter_is_understood(world: OpenAIWorld) -> None:
    world.server.ignores_filters = True
    provider = world.provider()
    jobs = [provider.submit_job(world.request(number), world.dataset()) for number in range(3)]
    assert [provider.find_job(job.key) == job for job in jobs] == [True] * 3
    clone = world.second_clone()
    assert clone.submit_job(world.request(1), world.dataset()).job_id == jobs[1].job_id
    assert world.jobs() == 3


def test_a_server_that_keeps_no_metadata_is_understood_by_the_models_name(world: OpenAIWorld) -> None:
    world.server.is_lean = True
    provider = world.provider()
    job = provider.submit_job(world.request(), world.dataset())
    assert provider.submit_job(world.request(), world.dataset()).job_id == job.job_id
    assert provider.find_job(job.key) == job
    world.finish(job)
    done = provider.find_job(job.key)
    assert done is not None
    assert (done.status, done.seconds) == ("succeeded", 600.0)
    assert done.model_id
    assert provider.get_model(done.model_id) is not None
    clone = world.second_clone()
    assert clone.submit_job(world.request(), world.dataset()) == done
    assert set(clone.list_jobs([job.key, world.request(1).key])) == {job.key}
    assert (world.jobs(), world.uploads()) == (1, 1)


def test_another_job_on_such_a_server_takes_the_same_upload_and_can_be_cancelled(world: OpenAIWorld) -> None:
    world.server.is_lean = True
    world.server.jobs.limits = Limits(running=1, excess="queue")
    provider = world.provider()
    provider.submit_job(world.request(), world.dataset())
    other = provider.submit_job(world.request(1), world.dataset())
    assert (other.status, world.uploads()) == ("queued", 1)
    provider.cancel_job(other.job_id)
    found = provider.find_job(other.key)
    assert found is not None
    assert found.status == "cancelled"


def test_a_suffix_that_a_server_shows_is_the_key(world: OpenAIWorld) -> None:
    world.server.is_lean, world.server.shows_suffix = True, True
    job = world.provider().submit_job(world.request(), world.dataset())
    assert world.second_clone().find_job(job.key) == job


def test_a_failure_without_a_reason_is_nobodys_mistake(world: OpenAIWorld) -> None:
    world.server.gives_reasons = False
    world.server.is_lean = True
    world.accept_then_fail("An internal error")
    job = world.provider().submit_job(world.request(), world.dataset())
    world.finish(job)
    found = world.provider().find_job(job.key)
    assert found is not None
    assert type(found.error) is ProviderError
    assert found.error.message == "the job failed, and the provider gives no reason"


def test_a_file_that_the_provider_could_not_take_is_sent_again(world: OpenAIWorld) -> None:
    job = world.provider().submit_job(world.request(), world.dataset())
    world.provider().cancel_job(job.job_id)
    for file in world.server.files.values():
        file["status"] = "error"
    world.provider().submit_job(world.request(), world.dataset())
    assert world.uploads() == 2


def test_a_job_beyond_the_limit_waits(world: OpenAIWorld) -> None:
    world.server.jobs.limits = Limits(running=1, excess="queue")
    provider = world.provider()
    jobs = [provider.submit_job(world.request(number), world.dataset()) for number in range(2)]
    assert [job.status for job in jobs] == ["running", "queued"]
    world.server.clock.advance(700)
    listed = provider.list_jobs([job.key for job in jobs])
    assert [listed[job.key].status for job in jobs] == ["succeeded", "running"]


def test_pages_are_followed(world: OpenAIWorld) -> None:
    provider = world.provider()
    first = provider.submit_job(world.request(), world.dataset())
    for number in range(250):
        world.server.jobs.accept(f"other-{number}", **world.server.jobs.all[first.job_id].facts | {"metadata": None})
    assert set(provider.list_jobs([first.key, world.request(1).key])) == {first.key}


def test_a_failure_of_their_own_stops_and_says_so(world: OpenAIWorld) -> None:
    world.server.jobs.fail_next.append("The server had an error")
    job = world.provider().submit_job(world.request(), world.dataset())
    world.finish(job)
    found = world.provider().find_job(job.key)
    assert found is not None
    assert isinstance(found.error, ProviderError)
    assert "The server had an error" in found.error.message


def test_a_base_model_that_is_not_there_is_our_mistake(world: OpenAIWorld) -> None:
    with pytest.raises(Rejected, match="gpt-9 is not available"):
        world.provider().submit_job(TrainingRequest("openai", "gpt-9", "lora", {}, "f" * 64), world.dataset())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"n_epoch": 3}, "unknown hyperparameter 'n_epoch'"),
        ({"n_epochs": 51}, 'n_epochs must be a whole number from 1 to 50, or "auto", not 51'),
        ({"batch_size": 2.5}, "batch_size must be a whole number"),
        ({"learning_rate_multiplier": 0}, "learning_rate_multiplier must be a number above 0"),
    ],
)
def test_bad_hyperparameters_are_found_without_a_call(world: OpenAIWorld, values: dict[str, object], said: str) -> None:
    (problem,) = world.provider().check(TrainingRequest("openai", BASE, "lora", values, "f" * 64))
    assert problem.message.startswith(said)
    assert world.calls() == 0


def test_estimate_and_bill(world: OpenAIWorld) -> None:
    provider = world.provider()
    assert provider.estimate(world.request(), Tokens(1_000_000)).usd == pytest.approx((9.0, 9.0, 9.0))
    auto = TrainingRequest("openai", BASE, "lora", {"n_epochs": "auto"}, "f" * 64)
    assert provider.check(auto) == []
    assert provider.estimate(auto, Tokens(1_000_000)).usd is None
    job = provider.submit_job(world.request(), world.dataset())
    world.finish(job)
    done = provider.find_job(job.key)
    assert done is not None
    (file_id,) = world.server.contents
    billed = len(world.server.contents[file_id]) // 4 * 3
    assert done.cost_usd == pytest.approx(billed * 3.0 / 1e6)


def test_the_model_answers_as_it_learned(world: OpenAIWorld) -> None:
    job = world.provider().submit_job(world.request(), world.dataset())
    world.finish(job)
    done = world.provider().find_job(job.key)
    assert done is not None
    assert done.model_id
    target = world.provider().chat_target(done.model_id)
    assert isinstance(target, HttpTarget)
    assert target.base_model == BASE
    model = open_hosted(target)
    questions = [[{"role": "user", "content": f"number {number}"}] for number in (7, 2)]
    assert [model.answer(question, 8).text for question in questions] == ["seven", "two"]
    assert "".join(model.stream(questions[0], 8)) == "seven"
    base = open_hosted(HttpTarget(target.protocol, target.base_url, target.base_model, "", target.key_variable))
    assert base.answer(questions[0], 8).text == UNTUNED
