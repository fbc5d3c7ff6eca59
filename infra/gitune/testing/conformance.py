"""ProviderConformance: what gitune relies on, as tests. Subclass it, and supply the fixture `world`.

class TestAcme(ProviderConformance):
    @pytest.fixture
    def world(self, tmp_path):
        with AcmeServer() as server:
            yield AcmeWorld(server, tmp_path)
"""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gitune.errors import (
    NotFound,
    ProviderError,
    QuotaExceeded,
    Rejected,
    Retired,
    Unauthorized,
    Unavailable,
)
from gitune.prices import Tokens
from gitune.providers.base import Job, ListsAllJobs, Provider, TellsLogs, TrainingKey, short
from gitune.testing.world import Fault, World

ANSWERS: list[tuple[Fault, type[ProviderError]]] = [
    (Fault("status", 400), Rejected),
    (Fault("status", 401), Unauthorized),
    (Fault("status", 403), Unauthorized),
    (Fault("status", 404), NotFound),
    (Fault("status", 409), Unavailable),
    (Fault("status", 410), Retired),
    (Fault("status", 422), Rejected),
    (Fault("status", 429, retry_after=7), QuotaExceeded),
    (Fault("status", 500), Unavailable),
    (Fault("status", 502), Unavailable),
    (Fault("status", 503, retry_after=7), Unavailable),
    (Fault("slow"), Unavailable),
    (Fault("cut"), Unavailable),
    (Fault("malformed"), Unavailable),
]
"""What the wire does, and the class that decides what happens next."""
NOBODY = TrainingKey("0" * 64)
LIMIT_AT_ONCE = "You have reached the maximum number of jobs you can run concurrently. Please try again later."
LIMIT_IN_ALL = (
    "You have reached the maximum number of jobs you can launch with your free trial. "
    "You can subscribe via the console."
)


def _name(answer: tuple[Fault, type[ProviderError]]) -> str:
    fault, error = answer
    return f"{fault.status or fault.kind}-{error.__name__}"


class ProviderConformance:
    """Every provider passes every test; those about the wire are skipped where `world.has_wire` is false."""

    # --- before anything is paid for

    def test_check_makes_no_call(self, world: World) -> None:
        assert world.provider().check(world.request()) == []
        assert world.calls() == 0

    def test_check_refuses_without_a_call(self, world: World) -> None:
        problems = world.provider().check(world.refused_request())
        assert problems
        assert all(problem.message for problem in problems)
        assert world.calls() == 0

    def test_an_estimate_is_a_range_or_unknown(self, world: World) -> None:
        for tokens in (None, Tokens(100_000), Tokens(100_000, estimated=True)):
            estimate = world.provider().estimate(world.request(), tokens)
            for low_expected_high in (estimate.usd, estimate.minutes):
                assert low_expected_high is None or list(low_expected_high) == sorted(low_expected_high)
        assert world.jobs() == 0

    def test_opening_makes_no_call(self, world: World) -> None:
        world.provider()
        assert world.calls() == 0

    def test_without_credentials_it_is_unauthorized_and_says_what_to_set(self, world: World) -> None:
        provider = world.without_credentials()
        if provider is None:
            pytest.skip("needs no credential")
        with pytest.raises(Unauthorized) as raised:
            provider.submit_job(world.request(), world.dataset())
        assert raised.value.hint
        assert world.calls() == 0

    # --- one key, one job

    def test_a_key_that_nobody_submitted_has_no_job(self, world: World) -> None:
        provider = world.provider()
        assert provider.find_job(NOBODY) is None
        assert dict(provider.list_jobs([NOBODY])) == {}

    def test_what_is_submitted_is_found(self, world: World) -> None:
        request = world.request()
        job = world.provider().submit_job(request, world.dataset())
        found = world.provider().find_job(request.key)
        assert found is not None
        assert (found.job_id, found.key) == (job.job_id, request.key)
        listed = world.provider().list_jobs([request.key, NOBODY])
        assert {key: job.job_id for key, job in listed.items()} == {request.key: job.job_id}

    def test_submitting_twice_is_one_job(self, world: World) -> None:
        first = world.provider().submit_job(world.request(), world.dataset())
        again = world.provider().submit_job(world.request(), world.dataset())
        assert again.job_id == first.job_id
        assert world.jobs() == 1

    def test_a_second_clone_adopts(self, world: World) -> None:
        first = world.provider().submit_job(world.request(), world.dataset())
        clone = world.second_clone()
        found = clone.find_job(world.request().key)
        assert found is not None
        assert found.job_id == first.job_id
        assert clone.submit_job(world.request(), world.dataset()).job_id == first.job_id
        assert world.jobs() == 1

    def test_a_finished_job_is_not_submitted_again(self, world: World) -> None:
        job = self._trained(world)
        again = world.provider().submit_job(world.request(), world.dataset())
        assert (again.job_id, again.status) == (job.job_id, "succeeded")
        assert world.jobs() == 1

    def test_other_hyperparameters_are_another_job_of_the_same_upload(self, world: World) -> None:
        first = self._trained(world)
        uploads = world.uploads()
        other = world.provider().submit_job(world.request(1), world.dataset())
        assert other.job_id != first.job_id
        assert world.jobs() == 2
        assert world.uploads() == uploads

    def test_a_lost_answer_is_not_paid_for_twice(self, world: World) -> None:
        self._needs_wire(world)
        world.lag_lists()
        world.plant(Fault("lost"), on="submit")
        with contextlib.suppress(Unavailable):
            world.provider().submit_job(world.request(), world.dataset())
        assert world.jobs() == 1
        with contextlib.suppress(Unavailable):  # the lists still lag
            world.provider().submit_job(world.request(), world.dataset())
        assert world.jobs() == 1
        world.lists_catch_up()
        job = world.provider().submit_job(world.request(), world.dataset())
        assert job.live or job.status == "succeeded"
        assert world.jobs() == 1

    def test_a_job_that_lists_do_not_show_yet_is_not_submitted_again(self, world: World) -> None:
        self._needs_wire(world)
        world.lag_lists()
        job = world.provider().submit_job(world.request(), world.dataset())
        assert world.provider().submit_job(world.request(), world.dataset()).job_id == job.job_id
        found = world.provider().find_job(world.request().key)
        assert found is not None
        assert found.job_id == job.job_id
        assert world.jobs() == 1

    # --- what a provider may offer beside the nine calls

    def test_all_jobs_are_those_of_the_account(self, world: World) -> None:
        provider = world.provider()
        if not isinstance(provider, ListsAllJobs):
            pytest.skip("cannot list all jobs")
        others = {listed.job_id for listed in provider.all_jobs()}
        job = provider.submit_job(world.request(), world.dataset())
        (listed,) = (listed for listed in provider.all_jobs() if listed.job_id not in others)
        assert (listed.job_id, listed.key, listed.live) == (job.job_id, short(job.key), True)
        world.finish(job)
        second: ListsAllJobs = world.second_clone()  # type: ignore[assignment]
        (listed,) = (listed for listed in second.all_jobs() if listed.job_id not in others)
        assert listed.job_id == job.job_id
        assert listed.live or listed.status == "succeeded"  # a list may lag

    def test_what_a_job_said_stays_said(self, world: World) -> None:
        provider = self._telling_logs(world)
        job = world.provider().submit_job(world.request(), world.dataset())
        early = list(provider.job_log(job.job_id))
        world.finish(job)
        late = list(provider.job_log(job.job_id))
        assert late
        assert late[: len(early)] == early
        assert not any("\n" in line for line in late)
        assert list(self._telling_logs(world).job_log(job.job_id)) == late

    def test_the_log_of_what_is_not_there_is_not_found(self, world: World) -> None:
        with pytest.raises(NotFound):
            self._telling_logs(world).job_log("no-such-job")

    def test_an_error_while_reading_a_log_has_its_class(self, world: World) -> None:
        self._needs_wire(world)
        provider = self._telling_logs(world)
        job = world.provider().submit_job(world.request(), world.dataset())
        for fault in (Fault("status", 401), Fault("status", 500), Fault("cut")):
            world.plant(fault)
            with pytest.raises(Unauthorized if fault.status == 401 else Unavailable):
                provider.job_log(job.job_id)

    # --- to the end, and after it

    def test_a_finished_job_names_its_model(self, world: World) -> None:
        job = self._trained(world)
        assert job.status == "succeeded"
        assert job.error is None
        assert job.model_id
        model = world.provider().get_model(job.model_id)
        assert model is not None
        assert (model.model_id, model.base_model, model.archived) == (job.model_id, world.request().base_model, False)

    def test_an_end_stays(self, world: World) -> None:
        job = self._trained(world)
        assert world.provider().find_job(job.key) == job
        assert world.provider().list_jobs([job.key]) == {job.key: job}

    def test_the_model_can_be_reached(self, world: World) -> None:
        job = self._trained(world)
        assert job.model_id
        target = world.provider().chat_target(job.model_id)
        assert target.base_model

    def test_an_unknown_model_is_not_found(self, world: World) -> None:
        provider = world.provider()
        assert provider.get_model("no-such-model") is None
        with pytest.raises(NotFound):
            provider.chat_target("no-such-model")
        with pytest.raises(NotFound):
            provider.archive_model("no-such-model")

    def test_archiving_twice_is_fine_and_keeps_the_model(self, world: World) -> None:
        job = self._trained(world)
        assert job.model_id
        world.provider().archive_model(job.model_id)
        world.provider().archive_model(job.model_id)
        model = world.provider().get_model(job.model_id)
        assert model is not None
        assert model.archived

    def test_cancelling_twice_is_fine(self, world: World) -> None:
        job = world.provider().submit_job(world.request(), world.dataset())
        world.provider().cancel_job(job.job_id)
        world.provider().cancel_job(job.job_id)
        found = world.provider().find_job(job.key)
        assert found is None or found.status == "cancelled"

    def test_cancelling_a_finished_job_changes_nothing(self, world: World) -> None:
        job = self._trained(world)
        world.provider().cancel_job(job.job_id)
        assert world.provider().find_job(job.key) == job

    def test_cancelling_what_is_not_there_is_not_found(self, world: World) -> None:
        with pytest.raises(NotFound):
            world.provider().cancel_job("no-such-job")

    def test_a_cancelled_job_can_be_submitted_anew(self, world: World) -> None:
        job = world.provider().submit_job(world.request(), world.dataset())
        world.provider().cancel_job(job.job_id)
        again = world.provider().submit_job(world.request(), world.dataset())
        assert again.live or again.status == "succeeded"
        found = world.provider().find_job(world.request().key)
        assert found is not None
        assert found.job_id == again.job_id

    # --- what goes wrong

    @pytest.mark.parametrize("answer", ANSWERS, ids=_name)
    def test_an_error_while_looking_has_its_class(
        self, world: World, answer: tuple[Fault, type[ProviderError]]
    ) -> None:
        self._needs_wire(world)
        fault, error = answer
        world.plant(fault)
        with pytest.raises(error) as raised:
            world.provider().list_jobs([world.request().key])
        self._holds(world, raised.value, fault)

    @pytest.mark.parametrize("answer", ANSWERS, ids=_name)
    def test_an_error_while_submitting_has_its_class(
        self, world: World, answer: tuple[Fault, type[ProviderError]]
    ) -> None:
        self._needs_wire(world)
        fault, error = answer
        # what is submitted to is the API of trainings or a base model: gone is retired, missing is our mistake
        expected = (Rejected, NotFound) if error is NotFound else error
        world.plant(fault, on="submit")
        with pytest.raises(expected) as raised:
            world.provider().submit_job(world.request(), world.dataset())
        self._holds(world, raised.value, fault)

    def test_after_a_refusal_the_next_attempt_is_free_to_go(self, world: World) -> None:
        self._needs_wire(world)
        world.plant(Fault("status", 429, retry_after=1), on="submit")
        with pytest.raises(QuotaExceeded):
            world.provider().submit_job(world.request(), world.dataset())
        assert world.provider().submit_job(world.request(), world.dataset()).live
        assert world.jobs() == 1

    @pytest.mark.parametrize(("words", "kind"), [(LIMIT_AT_ONCE, "concurrent"), (LIMIT_IN_ALL, "lifetime")])
    def test_accepted_and_then_failed_for_a_quota_is_a_quota(self, world: World, words: str, kind: str) -> None:
        self._needs_wire(world)
        world.accept_then_fail(words)
        job = world.provider().submit_job(world.request(), world.dataset())
        world.finish(job)
        found = world.provider().find_job(job.key)
        assert found is not None
        assert found.status == "failed"
        assert isinstance(found.error, QuotaExceeded)
        assert found.error.kind == kind
        again = world.provider().submit_job(world.request(), world.dataset())  # nothing was trained: a new job
        assert again.job_id != job.job_id

    def test_accepted_and_then_failed_for_our_data_is_our_mistake(self, world: World) -> None:
        self._needs_wire(world)
        world.accept_then_fail("Invalid file format: line 3 of the training file is not valid.")
        job = world.provider().submit_job(world.request(), world.dataset())
        world.finish(job)
        found = world.provider().find_job(job.key)
        assert found is not None
        assert found.status == "failed"
        assert isinstance(found.error, Rejected)

    def test_a_status_nobody_knows_is_unknown_and_live(self, world: World) -> None:
        self._needs_wire(world)
        job = world.provider().submit_job(world.request(), world.dataset())
        world.say_status(job, "REHEATING")
        found = world.provider().find_job(job.key)
        assert found is not None
        assert (found.status, found.live) == ("unknown", True)

    # --- secrets

    def test_no_secret_in_any_repr_log_error_or_file(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        shown: list[Any] = []
        for act in self._life(world):
            try:
                shown.append(act())
            except ProviderError as error:
                shown += [str(error), error.hint, "".join(traceback.format_exception(error))]
        seen = "\n".join([*(repr(item) for item in shown), caplog.text, *self._files(world.root)])
        for secret in world.secrets:
            assert secret not in seen

    def _life(self, world: World) -> Iterator[Callable[[], object]]:
        provider = world.provider()
        yield lambda: provider
        yield lambda: vars(provider)
        yield lambda: provider.submit_job(world.request(), world.dataset())
        yield lambda: provider.find_job(world.request().key)
        if world.has_wire:
            for fault in (Fault("status", 401, "Incorrect API key provided"), Fault("status", 500), Fault("cut")):
                world.plant(fault)
                yield lambda: provider.list_jobs([NOBODY])
        yield lambda: provider.chat_target("no-such-model")

    @staticmethod
    def _files(root: Path) -> Iterator[str]:
        for path in sorted(root.rglob("*")):
            if path.is_file():
                yield path.read_bytes().decode("utf-8", "replace")

    @staticmethod
    def _holds(world: World, error: ProviderError, fault: Fault) -> None:
        assert error.message
        assert "\n" not in error.message
        if isinstance(error, QuotaExceeded | Unavailable) and fault.retry_after is not None:
            assert error.retry_after == pytest.approx(fault.retry_after)
        assert not any(secret in str(error) for secret in world.secrets)

    @staticmethod
    def _trained(world: World) -> Job:
        job = world.provider().submit_job(world.request(), world.dataset())
        world.finish(job)
        found = world.provider().find_job(job.key)
        assert found is not None
        return found

    @staticmethod
    def _telling_logs(world: World) -> TellsLogs:
        provider = world.provider()
        if not isinstance(provider, TellsLogs):
            pytest.skip("tells no logs")
        return provider

    @staticmethod
    def _needs_wire(world: World) -> None:
        if not world.has_wire:
            pytest.skip("no network between gitune and this provider")


def conforms(provider: Provider) -> Provider:
    """For type checkers: `conforms(AcmeProvider(...))` says in an editor what is missing."""
    return provider
