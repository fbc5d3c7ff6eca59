"""One step of reconciling, against a provider that answers as scripted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from gitune.errors import (
    Problem,
    ProviderError,
    QuotaExceeded,
    Rejected,
    Retired,
    Unauthorized,
    Unavailable,
)
from gitune.prices import Tokens
from gitune.providers.base import (
    Estimate,
    HttpTarget,
    Job,
    Model,
    Provider,
    TrainingDefaults,
    TrainingKey,
    TrainingRequest,
)
from gitune.reconcile import ModelState, advance, observe

DATASET = Path("dataset")


class ScriptedProvider:
    """Holds jobs by key; `refusal` is raised by every submit."""

    name: ClassVar[str] = "scripted"
    defaults: ClassVar[TrainingDefaults] = TrainingDefaults("base", {})

    def __init__(self, refusal: ProviderError | None = None) -> None:
        self.found: dict[str, Job] = {}
        self.refusal = refusal
        self.submitted: list[TrainingKey] = []
        self.silent = False

    def check(self, request: TrainingRequest) -> list[Problem]:
        return []

    def estimate(self, request: TrainingRequest, tokens: Tokens | None = None) -> Estimate:
        return Estimate(None, None)

    def find_job(self, key: TrainingKey) -> Job | None:
        if self.silent:
            raise Unavailable("no answer")
        return self.found.get(key)

    def submit_job(self, request: TrainingRequest, dataset: Path) -> Job:
        if self.refusal is not None:
            raise self.refusal
        self.submitted.append(request.key)
        self.found[request.key] = Job(request.key, "job-1", "running")
        return self.found[request.key]

    def list_jobs(self, keys: Collection[TrainingKey]) -> Mapping[TrainingKey, Job]:
        return {key: self.found[key] for key in keys if key in self.found}

    def cancel_job(self, job_id: str) -> None: ...

    def get_model(self, model_id: str) -> Model | None:
        return None

    def archive_model(self, model_id: str) -> None: ...

    def chat_target(self, model_id: str) -> HttpTarget:
        return HttpTarget("openai", "http://127.0.0.1", model_id, "base", None)


def request(provider: str) -> TrainingRequest:
    return TrainingRequest(provider, "base", "lora", {"epochs": 1}, "f" * 64)


FIRST, SECOND = request("first"), request("second")


def opener(**providers: ScriptedProvider) -> Callable[[str], Provider]:
    return lambda name: providers[name]


def test_it_submits_once_and_then_adopts() -> None:
    first = ScriptedProvider()
    state = advance([FIRST, SECOND], DATASET, opener(first=first))
    assert (state.status, state.provider, state.job_id, state.key) == ("running", "first", "job-1", FIRST.key)
    again = advance([FIRST, SECOND], DATASET, opener(first=first))
    assert again == state
    assert first.submitted == [FIRST.key]


def test_a_finished_job_is_adopted_with_its_model() -> None:
    first = ScriptedProvider()
    first.found[FIRST.key] = Job(FIRST.key, "old", "succeeded", model_id="ft:x", seconds=60.0, cost_usd=4.0)
    state = advance([FIRST], DATASET, opener(first=first))
    assert (state.status, state.model_id, state.cost_usd) == ("succeeded", "ft:x", 4.0)
    assert first.submitted == []


@pytest.mark.parametrize(
    "refusal", [QuotaExceeded("three for life", kind="lifetime"), Retired("gone"), Unauthorized("no key")]
)
def test_it_fails_over_and_says_why(refusal: ProviderError) -> None:
    first, second = ScriptedProvider(refusal), ScriptedProvider()
    state = advance([FIRST, SECOND], DATASET, opener(first=first, second=second))
    assert (state.status, state.provider) == ("running", "second")
    assert state.reason == f"first: {refusal.message}"


@pytest.mark.parametrize("refusal", [QuotaExceeded("two at once", kind="concurrent"), Unavailable("503")])
def test_it_queues_for_the_same_candidate(refusal: ProviderError) -> None:
    second = ScriptedProvider()
    state = advance([FIRST, SECOND], DATASET, opener(first=ScriptedProvider(refusal), second=second))
    assert (state.status, state.provider, state.reason) == ("queued", "first", f"first: {refusal.message}")
    assert second.submitted == []


def test_our_mistake_is_not_paid_for_twice() -> None:
    second = ScriptedProvider()
    first = ScriptedProvider(Rejected("bad hyperparameter", hint="mend it"))
    state = advance([FIRST, SECOND], DATASET, opener(first=first, second=second))
    assert (state.status, state.reason) == ("failed", "first: bad hyperparameter (mend it)")
    assert second.submitted == []


def test_an_accepted_job_that_met_a_full_house_is_submitted_again() -> None:
    first, second = ScriptedProvider(), ScriptedProvider()
    full = QuotaExceeded("two at once", kind="concurrent")
    first.found[FIRST.key] = Job(FIRST.key, "491d4d2c", "failed", error=full)
    state = advance([FIRST, SECOND], DATASET, opener(first=first, second=second))
    assert (state.status, state.provider, state.job_id) == ("running", "first", "job-1")
    assert (first.submitted, second.submitted) == ([FIRST.key], [])


def test_an_accepted_job_that_fails_for_a_quota_fails_over() -> None:
    first, second = ScriptedProvider(), ScriptedProvider()
    quota = QuotaExceeded("free trial", kind="lifetime")
    first.found[FIRST.key] = Job(FIRST.key, "491d4d2c", "failed", error=quota)
    state = advance([FIRST, SECOND], DATASET, opener(first=first, second=second))
    assert (state.status, state.provider, state.reason) == ("running", "second", "first: free trial")


def test_no_candidate_left() -> None:
    gone = ScriptedProvider(Retired("gone"))
    state = advance([FIRST, SECOND], DATASET, opener(first=gone, second=gone))
    assert (state.status, state.reason) == ("failed", "first: gone; second: gone; no candidate is left")


def test_a_crashed_job_is_started_anew_only_when_asked() -> None:
    first = ScriptedProvider()
    first.found[FIRST.key] = Job(FIRST.key, "old", "failed", error=ProviderError("out of memory"))
    state = advance([FIRST], DATASET, opener(first=first))
    assert (state.status, state.reason, first.submitted) == ("failed", "first: out of memory", [])
    assert advance([FIRST], DATASET, opener(first=first), retry_failed=True).status == "running"
    assert first.submitted == [FIRST.key]


@pytest.mark.parametrize("status", ["lost", "cancelled"])
def test_a_killed_job_goes_on(status: str) -> None:
    first = ScriptedProvider()
    first.found[FIRST.key] = Job(FIRST.key, "old", status)  # type: ignore[arg-type]
    assert advance([FIRST], DATASET, opener(first=first)).status == "running"
    assert first.submitted == [FIRST.key]


RUNNING = ModelState("running", FIRST.key, "first", "base", "job-1")


def test_observing_a_job_records_its_end() -> None:
    first = ScriptedProvider()
    first.found[FIRST.key] = Job(FIRST.key, "job-1", "running", progress=0.5, seconds=3.0)
    assert observe(RUNNING, opener(first=first)) == RUNNING  # time alone does not change the state
    first.found[FIRST.key] = Job(FIRST.key, "job-1", "succeeded", model_id="m", seconds=9.0, cost_usd=1.0)
    seen = observe(RUNNING, opener(first=first))
    assert seen == replace(RUNNING, status="succeeded", model_id="m", seconds=9.0, cost_usd=1.0)


def test_a_vanished_job_is_lost_but_silence_is_not() -> None:
    first = ScriptedProvider()
    assert observe(RUNNING, opener(first=first)).status == "lost"
    first.silent = True
    assert observe(RUNNING, opener(first=first)) == RUNNING


def test_a_word_that_nobody_knows_is_no_crash() -> None:
    first = ScriptedProvider()
    first.found[FIRST.key] = Job(FIRST.key, "job-1", "unknown")
    assert observe(RUNNING, opener(first=first)).status == "running"


def test_state_survives_being_recorded() -> None:
    state = ModelState("succeeded", "k", "first", "base", "j", "m", "r", 1.5, 0.0)
    assert ModelState.from_outputs({**state.outputs(), "agent": "support"}) == state
    assert ModelState.from_outputs({}).status == "lost"


def test_every_part_of_a_training_is_in_its_key() -> None:
    keys = {
        FIRST.key,
        SECOND.key,
        replace(FIRST, base_model="other").key,
        replace(FIRST, method="full").key,
        replace(FIRST, hyperparameters={"epochs": 2}).key,
        replace(FIRST, fingerprint="0" * 64).key,
    }
    assert len(keys) == 6
    assert replace(FIRST, hyperparameters={"a": 1, "b": 2}).key == replace(FIRST, hyperparameters={"b": 2, "a": 1}).key
