"""One agent's step: what a decision makes of a record, and what an answer makes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from gitune import errors
from gitune.limits import Declared, hear
from gitune.providers.base import Job, Model, Provider, TrainingKey, TrainingRequest
from gitune.reconcile import ModelState, Target, observe, refuse, submit, target
from gitune.scheduler import Decision
from tests.simulation import engine_habits

NOW = 1_790_000_000.0
FIRST, SECOND = (TrainingRequest(name, "base", "lora", {"epochs": 1}, "f") for name in ("mistral", "openai"))
DECLARED = {"mistral": Declared(running=2), "openai": Declared()}
HEARD = hear(errors.QuotaExceeded("full", kind="concurrent", retry_after=60.0), "mistral", Declared(), NOW, beside=2)
UNRECORDED = ModelState("lost")
FULL_STATE = ModelState(
    "queued",
    FIRST.key,
    "mistral",
    "base",
    reason="why",
    queued_at=NOW,
    beside=3,
    refused_at={FIRST.key: NOW},
    rejected={SECOND.key: "line 3"},
    not_before=NOW + 300,
    heard=HEARD,
    forgiven=("job-0",),
)


def targeted(decision: Decision, recorded: ModelState = UNRECORDED) -> Target:
    return target(decision, [FIRST, SECOND], recorded, DECLARED, NOW)


class ScriptedProvider:
    """Answers a submission, and a question, with this."""

    def __init__(self, answer: Job | errors.ProviderError | None, model: Model | None = None) -> None:
        self.answer, self.model = answer, model
        self.submitted = 0

    def submit_job(self, _request: TrainingRequest, _dataset: Path) -> Job:
        self.submitted += 1
        return cast(Job, self._said())

    def find_job(self, _key: TrainingKey) -> Job | None:
        return self._said()

    def get_model(self, _model_id: str) -> Model | None:
        return self.model

    def _said(self) -> Job | None:
        if isinstance(self.answer, errors.ProviderError):
            raise self.answer
        return self.answer


def opening(provider: ScriptedProvider) -> Any:
    return lambda _name: cast(Provider, provider)


def job(status: str, error: errors.ProviderError | None = None, request: TrainingRequest = FIRST) -> Job:
    model = "ft:x" if status == "succeeded" else None
    return Job(request.key, "job-1", status, model, error, seconds=60.0, cost_usd=4.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("state", [FULL_STATE, ModelState("lost"), ModelState("succeeded", seconds=1.0, cost_usd=0.0)])
def test_a_state_survives_the_engine(state: ModelState) -> None:
    assert ModelState.from_outputs(engine_habits(state.outputs())) == state


def test_a_target_survives_its_file() -> None:
    wanted = Target((FIRST.key, SECOND.key), FULL_STATE, 1, Declared(2, "unlimited", "waits"))
    assert Target.from_dict(json.loads(json.dumps(wanted.as_dict()))) == wanted


def test_an_adopted_job_takes_the_place_of_everything_that_was_waited_for() -> None:
    wanted = targeted(Decision("adopt", 1, ("mistral: spent",), job("succeeded", request=SECOND)), FULL_STATE)
    state = wanted.state
    assert (wanted.submit, state.status, state.provider, state.model_id) == (None, "succeeded", "openai", "ft:x")
    assert (state.reason, state.seconds, state.cost_usd) == ("mistral: spent", 60.0, 4.0)
    assert (state.queued_at, state.beside, state.not_before) == (None, None, 0.0)
    assert (state.refused_at, state.rejected, state.forgiven) == ({}, {}, ())
    assert state.heard == HEARD, "others go on to learn from it"


def test_why_a_job_is_where_it_is_stays_recorded() -> None:
    first = targeted(Decision("adopt", 1, ("mistral: spent",), job("running", request=SECOND))).state
    assert targeted(Decision("adopt", 1, (), job("succeeded", request=SECOND)), first).state.reason == "mistral: spent"


def test_time_that_passes_changes_nothing_of_a_running_job() -> None:
    first = targeted(Decision("adopt", 0, job=job("running"))).state
    later = targeted(Decision("adopt", 0, job=replace(job("running"), seconds=99.0, progress=0.5)), first)
    assert not later.differs(first)


def test_who_waits_began_to_wait_when_it_first_did() -> None:
    first = targeted(Decision("queue", 0, ("mistral: full",))).state
    assert (first.status, first.queued_at, first.reason) == ("queued", NOW, "mistral: full")
    again = target(Decision("queue", 0, ("mistral: full",)), [FIRST, SECOND], first, DECLARED, NOW + 60)
    assert not again.differs(first)


def test_a_submission_is_recorded_with_what_runs_beside_it_and_its_declaration() -> None:
    wanted = targeted(Decision("submit", 0, beside=2), replace(FULL_STATE, rejected={FIRST.key: "line 3"}))
    assert (wanted.submit, wanted.state.beside, wanted.declared) == (0, 2, Declared(running=2))
    assert (wanted.state.rejected, wanted.state.not_before) == ({}, 0.0)
    provider = ScriptedProvider(job("queued"))
    state = submit(wanted, FIRST, Path(), opening(provider))
    assert (state.status, state.job_id, state.beside, provider.submitted) == ("running", "job-1", 2, 1)


def test_what_was_rejected_of_an_older_dataset_is_forgotten() -> None:
    assert targeted(Decision("queue", 0), ModelState("failed", rejected={"old": "line 3"})).state.rejected == {}


def test_who_stops_keeps_its_place_so_that_deciding_again_says_the_same() -> None:
    failed = job("failed", errors.Rejected("line 3"))
    state = targeted(Decision("stop", 0, ("mistral: line 3",), failed), FULL_STATE).state
    assert (state.status, state.job_id, state.queued_at, state.reason) == ("failed", "job-1", NOW, "mistral: line 3")
    assert targeted(Decision("stop", 0)).state.queued_at is None


def test_a_job_that_fails_at_once_is_an_answer() -> None:
    quota = errors.QuotaExceeded("full", kind="concurrent")
    with pytest.raises(errors.QuotaExceeded):
        submit(targeted(Decision("submit", 0)), FIRST, Path(), opening(ScriptedProvider(job("failed", quota))))


def test_a_full_house_is_heard_and_waited_for() -> None:
    wanted = targeted(Decision("submit", 0, beside=2))
    state = refuse(wanted, FIRST, errors.QuotaExceeded("full", kind="concurrent"), NOW)
    assert (state.status, state.reason) == ("queued", "mistral: full")
    (heard,) = state.heard
    assert (heard.kind, heard.beside, heard.at, heard.declared) == ("concurrent", 2, NOW, "2/None")


def test_a_rejected_dataset_stops_its_agent() -> None:
    state = refuse(targeted(Decision("submit", 0)), FIRST, errors.Rejected("line 3", hint="mend it"), NOW)
    assert (state.status, state.queued_at) == ("failed", None)
    assert state.rejected == {FIRST.key: "mistral: line 3 (mend it)"}
    assert state.heard == ()


def test_a_lost_answer_says_until_when_its_job_may_turn_up() -> None:
    state = refuse(targeted(Decision("submit", 0)), FIRST, errors.Unanswered("lost", retry_after=300.0), NOW)
    assert (state.status, state.not_before, state.heard) == ("queued", NOW + 300, ())


RUNNING = ModelState("running", FIRST.key, "mistral", "base", job_id="job-1")


@pytest.mark.parametrize("error", [errors.Unavailable("503"), errors.Retired("410"), errors.Unauthorized("401")])
def test_silence_says_nothing_of_a_job(error: errors.ProviderError) -> None:
    assert observe(RUNNING, opening(ScriptedProvider(error))) == RUNNING


def test_a_job_is_seen_as_it_is() -> None:
    done = observe(RUNNING, opening(ScriptedProvider(job("succeeded"))))
    assert (done.status, done.model_id) == ("succeeded", "ft:x")
    failed = observe(RUNNING, opening(ScriptedProvider(job("failed", errors.ProviderError("crashed")))))
    assert (failed.status, failed.reason) == ("failed", "mistral: crashed")
    assert observe(RUNNING, opening(ScriptedProvider(None))).status == "lost"
    assert observe(done, opening(ScriptedProvider(None, Model("ft:x", "base")))) == done, "its model is there"
    assert observe(FULL_STATE, opening(ScriptedProvider(None))) == FULL_STATE


def test_a_full_house_counts_those_that_were_taken_in_the_same_pass() -> None:
    """With a long pass most of them have ended when the next round looks, and the limit would be thought lower."""
    wanted = targeted(Decision("submit", 0, beside=2))
    state = refuse(wanted, FIRST, errors.QuotaExceeded("full", kind="concurrent"), NOW, taken=498)
    assert state.heard[0].beside == 500
