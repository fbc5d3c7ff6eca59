"""What `gitune up` shows: a row for each agent on a terminal, calm lines elsewhere, JSON lines for programs."""

from __future__ import annotations

import io
import json
import os
import pty
import re
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from rich.console import Console

from gitune.errors import UserError
from gitune.events import (
    Begun,
    Benchmarking,
    Changed,
    Ended,
    Event,
    Judged,
    Note,
    Stage,
    Sunset,
    Training,
    benchmark_teller,
)
from gitune.plan import Change
from gitune.report.board import Board
from gitune.report.calm import CalmLines
from gitune.report.json_lines import JsonLines
from gitune.report.live import LiveView, open_view
from gitune.sunset import Notice

AGENTS = ("analyst", "content", "legal", "qa", "support")
RUNNING = Training(
    "support",
    "running",
    "mistral",
    "job-1",
    "training",
    progress=0.25,
    seconds=60.0,
    eta_seconds=185.0,
    estimated_usd=4.0,
)
QUEUED = Training("qa", "queued", "mistral", detail="mistral: 2 job(s) at once", place=3)
NOTICE = Notice(
    "qa", "mistral", "training", None, date(2026, 7, 1), 0, "its training API ended", "name another", "mistral.ai"
)


class PressesCtrlC(io.StringIO):
    """A terminal whose user presses Ctrl-C as soon as the cursor is gone."""

    pressed = False

    def flush(self) -> None:
        if self.getvalue().endswith("\x1b[?25l") and not self.pressed:
            self.pressed = True
            raise KeyboardInterrupt


def test_ctrl_c_as_the_view_opens_leaves_the_cursor() -> None:
    terminal = PressesCtrlC()
    console = Console(file=terminal, width=80, height=20, force_terminal=True, color_system=None)
    with pytest.raises(KeyboardInterrupt), LiveView(console):
        pytest.fail("the view opened")
    assert terminal.getvalue().rfind("\x1b[?25h") > terminal.getvalue().rfind("\x1b[?25l") >= 0


def screen(*events: Event, width: int = 120, height: int = 30) -> str:
    """What a terminal of this size shows after these events."""
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    view = LiveView(console)
    for event in (Begun("training", AGENTS), *events):
        view.tell(event)
    with console.capture() as shown:
        console.print(view.picture())
    return shown.get()


def row(shown: str, agent: str) -> list[str]:
    """The cells of an agent's row."""
    (line,) = (line for line in shown.splitlines() if line.startswith(agent))
    return line.split()


def test_a_training_shows_stage_provider_progress_time_left_and_cost() -> None:
    cells = row(screen(RUNNING), "support")
    assert cells[:3] == ["support", "training", "mistral"]
    assert cells[-5:] == ["25%", "training", "1:00", "3:05", "~$4.00"]
    assert "━" in cells[3]


def test_what_was_billed_stands_without_a_tilde() -> None:
    ended = Training("support", "succeeded", "mistral", "job-1", seconds=300.0, cost_usd=4.2, estimated_usd=4.0)
    assert row(screen(RUNNING, ended), "support") == ["support", "trained", "mistral", "$4.20"]


def test_who_waits_has_a_place_in_line_and_a_reason() -> None:
    assert row(screen(QUEUED), "qa") == ["qa", "queued", "#3", "mistral", "2", "job(s)", "at", "once", "0:00"]


def test_a_job_without_progress_has_the_bar_of_its_expected_time() -> None:
    told = Training("support", "running", "openai", "job-1", "running", seconds=60.0, eta_seconds=60.0)
    assert "50%" in row(screen(told), "support")


def test_a_benchmark_shows_its_cases_and_the_verdict_follows() -> None:
    shown = screen(RUNNING, Benchmarking("support", "base model", 31, 96))
    assert " ".join(row(shown, "support")).startswith("support benchmark mistral ━")
    assert "31 of 96 cases, base model" in shown
    assert "passed" in screen(RUNNING, Judged("support", "pass", ("better",)))
    assert "worse than before" in screen(RUNNING, Judged("support", "fail", ("worse than before",)))


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    shown = screen(RUNNING, QUEUED, Stage("training"), width=width)
    assert max(map(len, shown.splitlines())) <= width


def test_a_thousand_agents_fit_a_screen_and_the_busy_ones_are_seen() -> None:
    names = tuple(f"agent-{number:03}" for number in range(1000))
    waiting = [Training(name, "queued", "mistral", detail="full", place=n) for n, name in enumerate(names[:900], 1)]
    running = [Training(name, "running", "mistral", "job") for name in names[990:]]
    shown = screen(Begun("training", names), *waiting, *running, height=24)
    assert len(shown.splitlines()) <= 24
    assert all(name in shown for name in names[990:])
    assert "agent-000  queued #1" in shown
    assert "and 891 queued, 90 unchanged" in shown


def test_a_name_cannot_move_the_cursor() -> None:
    told = Training("support", "running", "mistral", "job-1", "\x1b[2Jgone [bold]")
    assert "·[2Jgone [bold]" in screen(told)


def test_the_clock_of_a_row_goes_on_between_events() -> None:
    board = Board()
    told = board.tell(RUNNING, now=1000.0)
    assert told is not None
    assert (told.elapsed(1010.0), told.left(1010.0), told.left(5000.0)) == (70.0, 175.0, 0.0)


# --- where nobody watches


def calm(*events: Event) -> list[str]:
    file = io.StringIO()
    lines = CalmLines(Console(file=file, width=400, highlight=False, soft_wrap=True))
    for event in events:
        lines.tell(event)
    return file.getvalue().splitlines()


def test_a_calm_line_tells_when_an_agent_moves_on_and_not_at_every_poll() -> None:
    later = replace(RUNNING, progress=0.3, seconds=65.0, eta_seconds=180.0)
    told = calm(Begun("training", AGENTS), QUEUED, QUEUED, RUNNING, later, Judged("support", "pass", ("better",)))
    assert told == [
        "  qa: queued on mistral, #3 in line, 2 job(s) at once",
        "  support: training on mistral, 25%, training, 3:05 left, ~$4.00",
        "  support: passed",
    ]


def test_notes_changes_ends_and_long_stages_are_told_by_all(capsys: pytest.CaptureFixture[str]) -> None:
    change = Change("qa", "train", "trains tiny on mistral, 9 examples", ("its dataset changed",))
    stages = (Stage("training"), Stage("training", 12.3), Stage("smoke test"), Stage("smoke test", 0.2))
    told = calm(Note("waiting"), Changed(change), Sunset(NOTICE), *stages)
    assert told == [
        "waiting",
        "  + qa: trains tiny on mistral, 9 examples",
        "      because its dataset changed",
        "  ! qa: its training API ended",
        "      hint: name another",
        "training: 12.3 s",
    ]


def test_calm_lines_have_no_colours_and_no_markup() -> None:
    (line,) = calm(Note("[bold]as it is[/bold]"))
    assert line == "[bold]as it is[/bold]"


def test_no_terminal_gets_calm_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with open_view() as view:
        view.tell(RUNNING)
    assert isinstance(view, CalmLines)


@pytest.mark.parametrize(
    ("environment", "kind"),
    [({}, LiveView), ({"NO_COLOR": "1"}, LiveView), ({"TERM": "dumb"}, CalmLines), ({"CI": "true"}, CalmLines)],
    ids=str,
)
def test_a_terminal_gets_the_live_view_unless_it_is_dumb_or_in_ci(
    environment: dict[str, str], kind: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CI", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", **environment}.items():
        monkeypatch.setenv(name, value)
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        with open_view() as view:
            view.tell(RUNNING)
    shown = os.read(master, 65536)
    os.close(master)
    assert isinstance(view, kind)
    assert (b"\x1b[" in shown) is (kind is LiveView)
    assert not re.search(rb"\x1b\[[0-9;]*3[0-7]m", shown) or "NO_COLOR" not in environment


# --- for programs


def written(*events: Event) -> list[dict[str, object]]:
    file = io.StringIO()
    with JsonLines(file) as lines:
        for event in events:
            lines.tell(event)
    return [json.loads(line) for line in file.getvalue().splitlines()]


def test_every_line_has_a_time_and_a_kind() -> None:
    told = written(Begun("training", AGENTS), RUNNING, Sunset(NOTICE), Ended(0))
    assert [line["kind"] for line in told] == ["begun", "training", "sunset", "end"]
    for line in told:
        at = datetime.fromisoformat(str(line["time"]))
        assert (at.tzinfo, str(line["time"])[-1]) == (UTC, "Z")
    assert told[1] == {
        "time": told[1]["time"],
        "kind": "training",
        "agent": "support",
        "status": "running",
        "provider": "mistral",
        "job_id": "job-1",
        "detail": "training",
        "place": None,
        "progress": 0.25,
        "seconds": 60.0,
        "eta_seconds": 185.0,
        "cost_usd": None,
        "estimated_usd": 4.0,
    }


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (UserError("no room", hint="make some"), {"exit_code": 1, "error": "no room", "hint": "make some"}),
        (KeyboardInterrupt(), {"exit_code": 130, "error": None, "hint": None}),
        (RuntimeError("oh"), {"exit_code": 3, "error": "RuntimeError: oh", "hint": None}),
    ],
    ids=["user", "Ctrl-C", "bug"],
)
def test_the_last_line_says_how_it_ended(error: BaseException, end: dict[str, object]) -> None:
    file = io.StringIO()
    with pytest.raises(type(error)), JsonLines(file):
        raise error
    (line,) = map(json.loads, file.getvalue().splitlines())
    assert {name: line[name] for name in end} == end
    assert line["kind"] == "end"


def test_a_benchmark_of_thousands_of_cases_is_not_thousands_of_events() -> None:
    told: list[Event] = []

    class Ears:
        def tell(self, event: Event) -> None:
            told.append(event)

    tell = benchmark_teller(Ears(), "support")
    for done in range(5001):
        tell("challenger", done, 5000)
    assert told[0] == Benchmarking("support", "challenger", 0, 5000)
    assert told[-1] == Benchmarking("support", "challenger", 5000, 5000)
    assert len(told) < 20
