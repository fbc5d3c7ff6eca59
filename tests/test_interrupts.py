"""Ctrl-C leaves `gitune up` in every stage, and twice leaves at once: real processes, real signals, a real terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from tests.conftest import Repository
from tests.journey import GITUNE, add_hosted_agents, wait_until
from tests.servers import mistral
from tests.servers.base import Phase

UP = ("up", "-s", "training", "--poll", "0.2")
LEFT = "interrupted: jobs that run go on, and gitune up goes on from here"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[mistral.MistralServer]:
    with mistral.MistralServer() as server:
        monkeypatch.setenv("MISTRAL_API_KEY", mistral.KEY)
        monkeypatch.setenv("MISTRAL_BASE_URL", server.url)
        yield server


@dataclass
class Terminal:
    """A process on a terminal of its own, 100 columns wide. What it prints is read all the time."""

    process: subprocess.Popen[bytes]
    master: int
    shown: bytearray = field(default_factory=bytearray)

    @classmethod
    def run(cls, repository: Repository, *arguments: str, **environment: str) -> Terminal:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        kept = {name: value for name, value in os.environ.items() if name not in ("CI", "NO_COLOR", "COLUMNS", "LINES")}
        process = subprocess.Popen(
            [GITUNE, *arguments],
            cwd=repository.root,
            env={**kept, "TERM": "xterm-256color", **environment},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_take_terminal,  # noqa: PLW1509 - one system call
        )
        os.close(slave)
        terminal = cls(process, master)
        threading.Thread(target=terminal._read, daemon=True).start()
        return terminal

    def press_ctrl_c(self) -> None:
        os.write(self.master, b"\x03")

    def end(self, seconds: float = 20) -> tuple[int, str]:
        """Exit code, and what was shown."""
        code = self.process.wait(timeout=seconds)
        time.sleep(0.1)
        return code, self.text

    @property
    def text(self) -> str:
        """Without colours and cursor movements."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.shown.decode("utf-8", "replace"))

    @property
    def has_cursor(self) -> bool:
        return self.shown.rfind(b"\x1b[?25h") >= self.shown.rfind(b"\x1b[?25l")

    def _read(self) -> None:
        while select.select([self.master], [], [])[0]:
            try:
                self.shown += os.read(self.master, 65536)
            except OSError:  # the last process has closed it
                return


def _take_terminal() -> None:
    """Ctrl-C is then a signal to all processes of the session."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Gate:
    """Keeps the server from answering chat, so that a benchmark stands still."""

    def __init__(self, server: mistral.MistralServer) -> None:
        self._server = server
        self._open = threading.Event()
        self.reached = threading.Event()
        server.watch = self._watch

    def open(self) -> None:
        self._open.set()

    def _watch(self, number: int, phase: Phase) -> bool:
        if phase == "received" and self._server.requests[number - 1].path.endswith("/chat/completions"):
            self.reached.set()
            self._open.wait(60)
        return False


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["reading", "reconciling", "training"])
def test_ctrl_c_once_leaves_and_says_how_to_go_on(
    stage: str, repository: Repository, server: mistral.MistralServer
) -> None:
    add_hosted_agents(repository, "mistral", 1)
    reached: dict[str, Callable[[Terminal], bool]] = {
        "reading": lambda shown: True,
        "reconciling": lambda shown: "trains open-mistral-7b" in shown.text,
        "training": lambda shown: bool(re.search(r"agent-0 +training +mistral", shown.text)),
    }
    terminal = Terminal.run(repository, *UP, "--events", "events.jsonl")
    wait_until((repository.root / "events.jsonl").exists, "gitune has begun")
    wait_until(lambda: reached[stage](terminal), stage, seconds=30)
    terminal.press_ctrl_c()
    code, shown = terminal.end()
    assert code == 130, shown
    assert LEFT in shown
    assert "Traceback" not in shown
    assert terminal.shown.rstrip().endswith(LEFT.encode())
    assert terminal.has_cursor
    last = json.loads((repository.root / "events.jsonl").read_text().splitlines()[-1])
    assert (last["kind"], last["exit_code"]) == ("end", 130)
    assert all(server.jobs.state(job) == "running" for job in server.jobs.all)


@pytest.mark.slow
def test_ctrl_c_once_leaves_a_benchmark_as_soon_as_it_is_answered(
    repository: Repository, server: mistral.MistralServer
) -> None:
    add_hosted_agents(repository, "mistral", 1)
    server.seconds_per_request = 120.0
    gate = Gate(server)
    terminal = Terminal.run(repository, *UP)
    assert gate.reached.wait(60), terminal.text
    terminal.press_ctrl_c()
    time.sleep(0.3)
    gate.open()
    code, shown = terminal.end()
    assert code == 130, shown
    assert LEFT in shown
    assert "Traceback" not in shown
    assert terminal.has_cursor


@pytest.mark.slow
def test_ctrl_c_twice_leaves_a_benchmark_that_stands_still(
    repository: Repository, server: mistral.MistralServer
) -> None:
    add_hosted_agents(repository, "mistral", 1)
    server.seconds_per_request = 120.0
    gate = Gate(server)
    terminal = Terminal.run(repository, *UP)
    assert gate.reached.wait(60), terminal.text
    wait_until(lambda: re.search(r"agent-0 +benchmark +mistral", terminal.text), "the benchmark is shown")
    terminal.press_ctrl_c()
    wait_until(lambda: "leaving; Ctrl-C again leaves at once" in terminal.text, "it says that it leaves", seconds=20)
    assert terminal.process.poll() is None
    terminal.press_ctrl_c()
    code, shown = terminal.end(seconds=5)
    gate.open()
    assert code == 130, shown
    assert "interrupted twice: left at once; jobs that run go on" in shown
    assert "Traceback" not in shown
    assert terminal.has_cursor


STUCK = """
import os, signal, time
from gitune.interrupts import leave_at_second_interrupt
leave_at_second_interrupt()
signal.signal(signal.SIGINT, lambda *_: os.write(1, b"once\\n"))  # such as asyncio's and inspect's
print("ready", flush=True)
while True:
    time.sleep(60)
"""


@pytest.fixture
def stuck() -> Iterator[subprocess.Popen[str]]:
    """A process that does not end at Ctrl-C."""
    with subprocess.Popen(
        [sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_twice_is_now_whatever_the_main_thread_does(stuck: subprocess.Popen[str]) -> None:
    stuck.send_signal(signal.SIGINT)
    assert stuck.stdout is not None
    assert stuck.stdout.readline() == "once\n"
    time.sleep(0.8)  # a person's pause, on a machine that is busy
    stuck.send_signal(signal.SIGINT)
    _, err = stuck.communicate(timeout=20)
    assert stuck.returncode == 130
    assert "Traceback" not in err


def test_one_press_that_comes_twice_is_one(stuck: subprocess.Popen[str]) -> None:
    for _ in range(3):  # at once, whatever else this machine does
        stuck.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        stuck.wait(timeout=0.5)
