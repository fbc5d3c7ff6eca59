"""One decision for all agents."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitune import errors
from gitune.limits import Limits
from gitune.providers.base import Job, TrainingKey
from gitune.scheduler import (
    PROBE_SECONDS,
    Candidate,
    Decision,
    Use,
    Wanted,
    backoff_seconds,
    decide,
    earliest,
    meaning,
    next_poll_seconds,
)

NOW = 1_790_000_000.0
MISTRAL, OPENAI = Candidate("mistral", "m"), Candidate("openai", "o")


def agent(name: str = "a", *candidates: Candidate, **facts: object) -> Wanted:
    """Keys are made the agent's own."""
    own = tuple(replace(candidate, key=f"{candidate.key}-{name}") for candidate in candidates or (MISTRAL, OPENAI))
    return replace(Wanted(name, own), **facts)  # type: ignore[arg-type]


def job(key: str, status: str = "running", error: errors.ProviderError | None = None) -> Job:
    return Job(TrainingKey(key), f"job-{key}", status, error=error)  # type: ignore[arg-type]


def failed(key: str, error: errors.ProviderError) -> dict[str, Job]:
    return {key: job(key, "failed", error)}


def one(
    wanted: Wanted,
    jobs: dict[str, Job] | None = None,
    use: dict[str, Use] | None = None,
    limits: dict[str, Limits] | None = None,
    now: float = NOW,
) -> Decision:
    return decide([wanted], jobs or {}, use or {}, limits or {}, now)[wanted.agent]


def many(*wanted: Wanted, use: dict[str, Use] | None = None, limits: dict[str, Limits] | None = None) -> dict[str, str]:
    decided = decide(wanted, {}, use or {}, limits or {}, NOW)
    return {name: d.action + (f" {d.candidate}" if d.action != "stop" else "") for name, d in decided.items()}


@pytest.mark.parametrize(
    ("error", "follows"),
    [
        (errors.QuotaExceeded("", kind="concurrent"), "queue"),
        (errors.QuotaExceeded("", kind="lifetime"), "next"),
        (errors.Retired(""), "next"),
        (errors.Unauthorized(""), "next"),
        (errors.Unavailable(""), "queue"),
        (errors.Unanswered("", retry_after=1.0), "queue"),
        (errors.Rejected(""), "stop"),
        (errors.NotFound(""), "stop"),
        (errors.ProviderError("crashed"), "stop"),
    ],
)
def test_the_class_of_an_error_decides(error: errors.ProviderError, follows: str) -> None:
    assert meaning(error) == follows


def test_who_waits_has_a_place_in_line_at_the_provider_that_it_waits_for() -> None:
    wanted = [agent(name, MISTRAL, queued_at=NOW - since) for name, since in (("a", 5), ("b", 20), ("c", 10))]
    others = [agent(name, OPENAI) for name in ("d", "e")]
    limits = {"mistral": Limits(running=1), "openai": Limits(running=1)}
    decided = decide([*wanted, *others], {}, {"mistral": Use(live=1)}, limits, NOW)
    places = {name: decision.place for name, decision in decided.items()}
    assert places == {"b": 1, "c": 2, "a": 3, "d": 0, "e": 1}  # d is submitted


@pytest.mark.parametrize("status", ["queued", "running", "unknown", "succeeded"])
@pytest.mark.parametrize("key", ["m-a", "o-a"])
def test_a_job_of_any_candidate_is_adopted_before_anything_is_submitted(status: str, key: str) -> None:
    decision = one(agent(), {key: job(key, status)})
    assert (decision.action, decision.job) == ("adopt", job(key, status))


@pytest.mark.parametrize("status", ["cancelled", "lost"])
def test_a_job_without_an_end_is_replaced(status: str) -> None:
    assert one(agent(), {"m-a": job("m-a", status)}).action == "submit"


def test_a_refused_candidate_is_not_submitted_but_adopted() -> None:
    refused = replace(MISTRAL, refused="over budget")
    decision = one(agent("a", refused, OPENAI))
    assert (decision.action, decision.candidate, decision.reasons) == ("submit", 1, ("mistral: over budget",))
    assert one(agent("a", refused, OPENAI), {"m-a": job("m-a")}).action == "adopt"
    assert one(agent("a", refused)).reasons == ("mistral: over budget", "no candidate is left")


def test_who_has_waited_longest_goes_first_then_the_larger_then_by_name() -> None:
    limits = {"mistral": Limits(running=1)}
    early, late = agent("z", queued_at=NOW - 60), agent("a", queued_at=NOW - 30, size=9)
    assert many(late, early, limits=limits) == {"z": "submit 0", "a": "queue 0"}
    small, large = agent("a", size=1, queued_at=NOW - 1), agent("b", size=2, queued_at=NOW - 1)
    assert many(small, large, limits=limits) == {"b": "submit 0", "a": "queue 0"}
    assert many(agent("b"), agent("a"), limits=limits) == {"a": "submit 0", "b": "queue 0"}


def test_slots_are_those_that_nobody_uses() -> None:
    agents = [agent(str(n)) for n in range(3)]
    use, limits = {"mistral": Use(live=1)}, {"mistral": Limits(running=3)}
    assert sorted(many(*agents, use=use, limits=limits).values()) == ["queue 0", "submit 0", "submit 0"]


def test_the_last_jobs_for_life_go_to_who_waits_for_them_and_the_others_pass_on() -> None:
    agents = [agent(str(n)) for n in range(4)]
    decided = many(*agents, use={"mistral": Use(live=1, used=1)}, limits={"mistral": Limits(running=2, total=3)})
    assert decided == {"0": "submit 0", "1": "queue 0", "2": "submit 1", "3": "submit 1"}
    last = one(agent(), use={"mistral": Use(used=3)}, limits={"mistral": Limits(total=3)})
    assert last.reasons == ("mistral: all 3 job(s) that it may ever run are used or spoken for",)


def test_a_limit_that_was_said_passes_on_for_as_long_as_it_is_remembered() -> None:
    limits = {"mistral": Limits(spent="free trial", spent_at=NOW - 2 * PROBE_SECONDS)}
    decision = one(agent(), limits=limits)
    assert (decision.action, decision.candidate, decision.reasons) == ("submit", 1, ("mistral: free trial",))


def test_a_patient_candidate_tries_a_spent_limit_every_hour_with_one_job() -> None:
    patient = replace(MISTRAL, wait_seconds=100 * PROBE_SECONDS)
    fresh = {"mistral": Limits(spent="free trial", spent_at=NOW - 60)}
    decision = one(agent("a", patient), limits=fresh)
    assert (decision.action, decision.until) == ("queue", NOW - 60 + PROBE_SECONDS)
    old = {"mistral": Limits(spent="free trial", spent_at=NOW - PROBE_SECONDS)}
    assert many(agent("a", patient), agent("b", patient), limits=old) == {"a": "submit 0", "b": "queue 0"}


def test_a_patient_candidate_is_waited_for_until_its_deadline_and_not_anew() -> None:
    patient = agent("a", replace(MISTRAL, wait_seconds=600.0), OPENAI, refused_at={"m-a": NOW - 599})
    use = {"mistral": Use(live=1), "openai": Use(live=1)}
    limits = {"mistral": Limits(running=1), "openai": Limits(running=1)}
    waits = one(patient, use=use, limits=limits)
    assert (waits.action, waits.candidate, waits.until) == ("queue", 0, NOW + 1)
    over = one(patient, use=use, limits=limits, now=NOW + 1)
    assert (over.action, over.candidate) == ("queue", 1)
    assert "was waited for long enough" in over.reasons[0]
    again = one(replace(patient, refused_at=over.refused_at), use=use, limits=limits, now=NOW + 2)
    assert (again.candidate, again.refused_at) == (1, over.refused_at)


def test_who_stops_after_the_deadline_stays_stopped() -> None:
    patient = agent("a", replace(MISTRAL, wait_seconds=600.0), refused_at={"m-a": NOW - 600})
    limits = {"mistral": Limits(total=0)}
    stopped = one(patient, limits=limits)
    assert stopped.action == "stop"
    assert one(replace(patient, refused_at=stopped.refused_at), limits=limits, now=NOW + 60) == stopped


def test_the_time_waited_counts_on_when_a_probe_was_sent() -> None:
    patient = agent("a", replace(MISTRAL, wait_seconds=600.0), refused_at={"m-a": NOW - 300})
    sent = one(patient)
    assert (sent.action, sent.refused_at) == ("submit", {"m-a": NOW - 300})


@pytest.mark.parametrize("error", [errors.Rejected("line 3"), errors.ProviderError("crashed")])
def test_what_is_wrong_with_a_job_stops_its_agent_alone_until_somebody_asks(error: errors.ProviderError) -> None:
    jobs = failed("m-a", error)
    decided = decide([agent("a"), agent("b")], jobs, {}, {}, NOW)
    assert (decided["a"].action, decided["b"].action) == ("stop", "submit")
    assert error.message in decided["a"].reasons[0]
    assert one(agent(forgiven=("job-m-a",)), jobs).action == "submit"
    assert one(agent(forgiven=("another",)), jobs).action == "stop"


def test_a_failed_job_without_a_reason_is_not_paid_for_again() -> None:
    assert one(agent(), {"m-a": job("m-a", "failed")}).action == "stop"


def test_a_refused_dataset_is_not_sent_again() -> None:
    decision = one(agent(rejected={"m-a": "mistral: line 3"}))
    assert (decision.action, decision.reasons) == ("stop", ("mistral: line 3",))


@pytest.mark.parametrize("error", [errors.Retired("410"), errors.Unauthorized("401")])
def test_a_job_that_failed_because_its_provider_is_closed_moves_on(error: errors.ProviderError) -> None:
    assert one(agent(), failed("m-a", error)).candidate == 1
    assert one(agent(), limits={"mistral": Limits(closed="410")}).reasons == ("mistral: 410",)


def test_a_job_too_many_is_sent_again_when_there_is_room() -> None:
    full = failed("m-a", errors.QuotaExceeded("two at once", kind="concurrent"))
    waits = one(agent(), full, {"mistral": Use(live=2)}, {"mistral": Limits(running=2)})
    assert (waits.action, waits.candidate) == ("queue", 0)
    assert one(agent(), full, {"mistral": Use(live=1)}, {"mistral": Limits(running=2)}).action == "submit"


def test_slow_start_sends_one_job_until_it_runs() -> None:
    limits = {"mistral": Limits(careful=True)}
    assert many(agent("a"), agent("b"), limits=limits) == {"a": "submit 0", "b": "queue 0"}
    assert many(agent("b"), use={"mistral": Use(live=1, waiting=1)}, limits=limits) == {"b": "queue 0"}
    assert many(agent("b"), use={"mistral": Use(live=1)}, limits=limits) == {"b": "submit 0"}


def test_beside_is_what_is_known_to_run() -> None:
    decided = decide([agent("a"), agent("b")], {}, {"mistral": Use(live=2)}, {}, NOW)
    assert [decision.beside for decision in decided.values()] == [2, 2]


def test_who_does_not_answer_is_waited_for() -> None:
    silent = one(agent(), use={"mistral": Use(answered=False)})
    assert (silent.action, silent.candidate, silent.until) == ("queue", 0, None)
    asked = one(agent(), limits={"mistral": Limits(not_before=NOW + 77, said="429")})
    assert (asked.action, asked.until, asked.reasons) == ("queue", NOW + 77, ("mistral: 429",))


def test_a_lost_answer_is_waited_for_by_its_agent_alone() -> None:
    decided = decide([agent("a", not_before=NOW + 300), agent("b")], {}, {}, {}, NOW)
    assert (decided["a"].action, decided["a"].until, decided["b"].action) == ("queue", NOW + 300, "submit")
    assert one(agent(not_before=NOW)).action == "submit"
    closed = {"mistral": Limits(closed="401")}
    assert one(agent(not_before=NOW + 300), limits=closed).action == "queue", "its job may be there"


def test_the_earliest_moment_is_when_to_look_again() -> None:
    waits = [Decision("queue", 0, until=NOW + 5), Decision("queue", 0, until=NOW + 3), Decision("queue", 0)]
    assert earliest(waits) == NOW + 3
    assert earliest([Decision("queue", 0), Decision("adopt", 0)]) is None


def test_polls_slow_down() -> None:
    assert [next_poll_seconds(n, longest=1.0) for n in range(4)] == [0.25, 0.5, 1.0, 1.0]
    assert next_poll_seconds(10_000) == 30.0


def test_backoff_is_drawn_from_who_and_how_often() -> None:
    assert backoff_seconds(3, "mistral") == backoff_seconds(3, "mistral")
    assert backoff_seconds(3, "mistral") != backoff_seconds(3, "openai")
    assert all(150.0 <= backoff_seconds(n, "mistral") <= 300.0 for n in (7, 8, 10_000))


names = st.lists(st.integers(0, 99).map(str), min_size=1, max_size=12, unique=True)
uses = st.builds(lambda n, waiting: Use(n, min(n, waiting), n), st.integers(0, 5), st.integers(0, 2))
limit = st.builds(
    Limits,
    running=st.none() | st.integers(1, 5),
    total=st.none() | st.integers(0, 8),
    closed=st.sampled_from(["", "", "410"]),
    careful=st.booleans(),
    not_before=st.sampled_from([0.0, NOW + 5]),
)


@given(names, uses, uses, limit, limit, st.randoms())
def test_the_order_in_which_agents_are_given_does_not_matter(
    found: list[str], m: Use, o: Use, lm: Limits, lo: Limits, chance: object
) -> None:
    agents = [agent(name, queued_at=NOW - int(name) % 7) for name in found]
    shuffled = list(agents)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    use, limits = {"mistral": m, "openai": o}, {"mistral": lm, "openai": lo}
    decided = decide(agents, {}, use, limits, NOW)
    assert decide(shuffled, {}, use, limits, NOW) == decided
    for number, (name, known) in enumerate(limits.items()):
        sent = sum(d.action == "submit" and d.candidate == number for d in decided.values())
        if known.running is not None:
            assert sent <= max(known.running - use[name].live, 0)
        if known.careful:
            assert sent <= 1
        if known.total is not None:
            assert sent <= max(known.total - use[name].used, 0)


def test_ten_thousand_agents_are_decided_at_once() -> None:
    agents = [agent(f"{n:05}", size=n % 50) for n in range(10_000)]
    started = time.process_time()
    decided = decide(agents, {}, {}, {"mistral": Limits(running=500)}, NOW)
    assert time.process_time() - started < 2.0
    assert sum(decision.action == "submit" for decision in decided.values()) == 500
