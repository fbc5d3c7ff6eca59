"""Limits: what answers teach, how long it is remembered, and what waits for what."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gitune import errors
from gitune.limits import Declared, Heard, Limits, hear, kind_of, known_limits, raised
from gitune.scheduler import backoff_seconds

NOW = 1_790_000_000.0
DAY = 86_400.0
UNDECLARED = Declared()
FULL = errors.QuotaExceeded("two at once", kind="concurrent")
SPENT = errors.QuotaExceeded("three for life", kind="lifetime")


def known(
    *heard: Heard, declared: Declared = UNDECLARED, now: float = NOW, live: int = 0, started: float = 0
) -> Limits:
    return known_limits("mistral", declared, heard, now, live=live, started=started, backoff=backoff_seconds)


def told(error: errors.ProviderError, *, declared: Declared = UNDECLARED, beside: int = 0, at: float = NOW) -> Heard:
    (heard,) = hear(error, "mistral", declared, at, beside=beside)
    return heard


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FULL, "concurrent"),
        (SPENT, "lifetime"),
        (errors.Retired("gone"), "closed"),
        (errors.Unauthorized("no key"), "unauthorized"),
        (errors.Unavailable("503"), "unavailable"),
        (errors.Unanswered("lost", retry_after=60.0), None),
        (errors.Rejected("line 3"), None),
        (errors.NotFound("no job"), None),
        (errors.ProviderError("crashed"), None),
    ],
)
def test_an_error_is_about_the_provider_or_about_one_job(error: errors.ProviderError, kind: str | None) -> None:
    assert kind_of(error) == kind
    assert bool(hear(error, "mistral", UNDECLARED, NOW)) == (kind is not None)


def test_a_full_house_is_as_many_as_ran_beside() -> None:
    assert known(told(FULL, beside=2)).running == 2
    assert known(told(FULL, beside=0)).running is None  # nobody ran: it was about something else


def test_the_lower_of_declared_and_learned_counts() -> None:
    declared = Declared(running=4)
    assert known(told(FULL, declared=declared, beside=2), declared=declared).running == 2
    assert known(told(FULL, declared=declared, beside=9), declared=declared).running == 4


def test_a_learned_limit_is_never_below_what_runs_now() -> None:
    assert known(told(FULL, beside=2), live=5).running == 5
    assert raised([told(FULL, beside=2)], {"mistral": 5})[0].beside == 5
    assert raised([told(FULL, beside=7)], {"mistral": 5})[0].beside == 7


def test_it_is_remembered_for_a_week_where_an_excess_fails_and_for_an_hour_where_it_is_refused() -> None:
    heard = told(FULL, beside=2)
    assert known(heard, now=NOW + 6 * DAY).running == 2
    assert known(heard, now=NOW + 8 * DAY).running is None
    refused = Declared(excess="refused")
    assert known(heard, declared=refused, now=NOW + 1800).running == 2
    assert known(heard, declared=refused, now=NOW + 7200).running is None
    assert known(told(SPENT), now=NOW + 6 * DAY).spent
    assert not known(told(SPENT), now=NOW + 8 * DAY).spent
    assert known(told(errors.Retired("gone")), now=NOW + 0.9 * DAY).closed
    assert not known(told(errors.Retired("gone")), now=NOW + 1.1 * DAY).closed


def test_another_declaration_is_newer_knowledge() -> None:
    heard = told(FULL, declared=Declared(running=2), beside=2), told(SPENT, declared=Declared(running=2))
    assert known(*heard, declared=Declared(running=2)).running == 2
    changed = known(*heard, declared=Declared(running=10))
    assert (changed.running, changed.spent) == (10, "")


def test_a_wrong_key_may_have_been_mended_since() -> None:
    heard = told(errors.Unauthorized("no key"))
    assert known(heard, now=NOW + 10, started=NOW - 10).closed == "no key"
    assert known(heard, now=NOW + 10, started=NOW + 5).closed == ""


def test_retry_after_is_honoured_else_waits_double() -> None:
    asked = told(errors.QuotaExceeded("429", kind="concurrent", retry_after=77.0))
    assert known(asked).not_before == NOW + 77.0
    heard: tuple[Heard, ...] = ()
    waits = []
    for _ in range(8):
        heard = hear(errors.Unavailable("503"), "mistral", UNDECLARED, NOW, heard)
        waits.append(known(*heard).not_before - NOW)
    assert [item.count for item in heard] == [8]
    most = [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]
    assert all(limit / 2 <= wait <= limit for wait, limit in zip(waits, most, strict=True))


def test_a_row_of_answers_ends_after_an_hour() -> None:
    heard = hear(errors.Unavailable("503"), "mistral", UNDECLARED, NOW)
    assert hear(errors.Unavailable("503"), "mistral", UNDECLARED, NOW + 60, heard)[0].count == 2
    assert hear(errors.Unavailable("503"), "mistral", UNDECLARED, NOW + DAY, heard)[0].count == 1


def test_a_late_failure_is_heard_once() -> None:
    heard = hear(FULL, "mistral", UNDECLARED, NOW, job_id="job-1", beside=2)
    assert hear(FULL, "mistral", UNDECLARED, NOW + 60, heard, job_id="job-1", beside=2) == heard
    asked = errors.QuotaExceeded("429", kind="concurrent", retry_after=600.0)
    later = hear(asked, "mistral", UNDECLARED, NOW + 60, heard)
    again = hear(FULL, "mistral", UNDECLARED, NOW + 120, later, job_id="job-1", beside=2)
    assert again == later, "what came later counts, with its Retry-After"


def test_another_provider_has_limits_of_its_own() -> None:
    (other,) = hear(SPENT, "openai", UNDECLARED, NOW)
    assert known(other) == known()


@pytest.mark.parametrize(
    ("declared", "careful"),
    [
        (Declared(), True),
        (Declared(running=2), True),
        (Declared(running=2, total="unlimited"), False),
        (Declared(running=2, total=3), False),
        (Declared(excess="refused"), False),
        (Declared(excess="waits"), False),
    ],
)
def test_one_job_at_a_time_where_an_excess_fails_and_its_limits_are_not_known(
    declared: Declared, careful: bool
) -> None:
    assert known(declared=declared).careful == careful


def test_what_was_heard_survives_the_engine() -> None:
    heard = replace(told(FULL, beside=2), job_id="job-1", count=3)
    outputs = {name: float(v) if isinstance(v, int) else v for name, v in heard.as_dict().items() if v is not None}
    read = Heard.from_dict(outputs)
    assert read == heard
    assert isinstance(read.beside, int)
