"""Decisions about errors and waiting."""

from __future__ import annotations

import pytest

from gitune import errors
from gitune.scheduler import after_error, next_poll_seconds, pass_is_due, waiting_for


@pytest.mark.parametrize(
    ("error", "decision"),
    [
        (errors.QuotaExceeded("", kind="concurrent"), "queue"),
        (errors.QuotaExceeded("", kind="lifetime"), "next"),
        (errors.Retired(""), "next"),
        (errors.Unauthorized(""), "next"),
        (errors.Unavailable(""), "queue"),
        (errors.Rejected(""), "stop"),
        (errors.NotFound(""), "stop"),
        (errors.ProviderError("crashed"), "stop"),
    ],
)
def test_the_class_of_an_error_decides(error: errors.ProviderError, decision: str) -> None:
    assert after_error(error) == decision


def test_waiting_is_for_what_can_change() -> None:
    assert waiting_for({"a": "succeeded", "b": "running"})
    assert waiting_for({"a": "queued"})
    assert waiting_for({"a": "lost"})
    assert not waiting_for({"a": "succeeded", "b": "failed"})


def test_a_pass_is_due_when_the_engine_has_something_to_do() -> None:
    running = {"a": "running", "b": "running"}
    assert not pass_is_due(running, running, queued=True)
    assert pass_is_due(running, {"a": "succeeded", "b": "running"}, queued=True)  # its slot is free
    assert not pass_is_due(running, {"a": "succeeded", "b": "running"}, queued=False)  # only to be recorded
    assert pass_is_due(running, {"a": "failed", "b": "running"}, queued=False)  # fail over
    assert pass_is_due(running, {"b": "running"}, queued=False)  # vanished


def test_polls_slow_down() -> None:
    assert [next_poll_seconds(n, longest=1.0) for n in range(4)] == [0.25, 0.5, 1.0, 1.0]
    assert next_poll_seconds(10_000) == 30.0
