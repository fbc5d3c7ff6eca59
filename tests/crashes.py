"""Every point at which a run of five agents can be killed, and what the account holds after the next run."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import certifi
import pytest

from gitune.files import read_json, write_atomic
from gitune.providers.base import TrainingRequest
from gitune.providers.submissions import LISTED_AFTER_SECONDS
from tests.crash_agents import Run, state_file, writes_file
from tests.servers import mistral
from tests.servers.base import Phase
from tests.servers.world import write_dataset

AGENTS = 5
Moment = Phase | Literal["write"]


@dataclass(frozen=True, order=True)
class Point:
    """Where a run is killed: at a phase of its n-th wire call, or before its n-th atomic write of a file."""

    number: int
    moment: Moment

    def __str__(self) -> str:
        return f"{self.moment}-{self.number}"


@dataclass(frozen=True)
class Account:
    """A provider, the server that stands for it, and where that keeps the training key of a job."""

    provider: str
    open_server: Callable[[], AbstractContextManager[Any]]
    environment: Callable[[Any], Mapping[str, str]]
    settings: Callable[[Any, Path], Mapping[str, Any]]
    base_model: str
    hyperparameters: Mapping[str, Any]
    key_of: Callable[[Mapping[str, Any]], str]
    """The training key, or its first digits, in the facts of a job."""

    def requests(self, fingerprints: Sequence[str]) -> list[TrainingRequest]:
        return [
            TrainingRequest(self.provider, self.base_model, "lora", self.hyperparameters, fingerprint)
            for fingerprint in fingerprints
        ]


class Forks:
    """Runs of tests/crash_agents.py, one after the other."""

    def __init__(self, program: subprocess.Popen[str]) -> None:
        self._program = program

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[Forks]:
        command = [sys.executable, "-m", "tests.crash_agents"]
        root = Path(__file__).parent.parent
        with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
            yield cls(program)
            assert program.stdin is not None
            program.stdin.close()

    def run(self, run: Run, on_start: Callable[[int], None] = lambda pid: None) -> int:
        """To its end. Returns its exit code, or the negative number of the signal that ended it."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(f"{run.line()}\n")
        self._program.stdin.flush()
        on_start(int(self._program.stdout.readline()))
        return int(self._program.stdout.readline())


@dataclass
class Trial:
    """A fresh server and a fresh clone."""

    account: Account
    server: Any
    root: Path
    forks: Forks
    signal: signal.Signals = signal.SIGKILL
    run: Run = field(init=False)

    def __post_init__(self) -> None:
        datasets = [self.root / "datasets" / str(agent) for agent in range(AGENTS)]
        prints = [_write_dataset(folder, agent) for agent, folder in enumerate(datasets)]
        self.requests = self.account.requests(prints)
        self.run = Run(
            str(self.root),
            {**self.account.environment(self.server), "SSL_CERT_FILE": str(one_authority(self.root))},
            self.account.settings(self.server, self.root),
            [asdict(request) for request in self.requests],
            [str(folder) for folder in datasets],
        )
        # a job ends within a pass or two
        self.server.seconds_per_request, self.server.jobs.duration = 20.0, 60.0

    def train(self, passes: int = 50) -> int:
        self.server.watch = lambda number, phase: False
        return self.forks.run(replace(self.run, passes=passes))

    def train_until(self, point: Point) -> int:
        """A run that is sent the signal at the point."""
        if point.moment == "write":
            return self.forks.run(replace(self.run, die_at_write=point.number, signal=int(self.signal)))
        process: Future[int] = Future()

        def watch(number: int, phase: Phase) -> bool:
            if (number, phase) != (point.number, point.moment):
                return False
            os.kill(process.result(timeout=10), self.signal)
            return True

        self.server.watch = watch
        return self.forks.run(self.run, process.set_result)

    def five_minutes_pass(self) -> None:
        """For the provider, whose lists catch up, and for the notes of this clone."""
        self.server.clock.advance(LISTED_AFTER_SECONDS)
        self.server.jobs.catch_up()
        age_notes(self.root)

    def paid_jobs(self) -> Counter[str]:
        """Jobs by agent that the account was charged for; "?" are those of nobody's key."""
        jobs = [job for job in self.server.jobs.all.values() if not job.failure]
        return Counter(self._agent(self.account.key_of(job.facts)) for job in jobs)

    def models(self) -> dict[str, str]:
        """What the clone has recorded: agent → the agent whose job made its model."""
        states = [read_json(state_file(self.root, agent)) or {} for agent in range(AGENTS)]
        made = {state["job_id"]: state for state in states if state.get("status") == "succeeded" and state["model_id"]}
        jobs = {job_id: job for job_id, job in self.server.jobs.all.items() if job_id in made}
        return {
            self._agent(made[job_id]["key"]): self._agent(self.account.key_of(job.facts))
            for job_id, job in jobs.items()
        }

    def _agent(self, key: str) -> str:
        found = (str(agent) for agent, request in enumerate(self.requests) if key and request.key.startswith(key))
        return next(found, "?")


def points_of(trial: Trial) -> list[Point]:
    """Of a run to its end without a crash: three for each wire call, one for each atomic write."""
    assert trial.train() == 0
    writes = read_json(writes_file(trial.root))["writes"]
    calls = [Point(number + 1, phase) for number in range(len(trial.server.requests)) for phase in get_args(Phase)]
    return [*calls, *(Point(number + 1, "write") for number in range(writes))]


@contextmanager
def open_mistral(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[mistral.MistralServer]:
    """The server, and the environment that a command needs to reach it. A job ends at the next call."""
    with mistral.MistralServer() as server:
        server.seconds_per_request, server.jobs.duration = 60.0, 60.0
        monkeypatch.setenv("MISTRAL_API_KEY", mistral.KEY)
        monkeypatch.setenv("MISTRAL_BASE_URL", server.url)
        monkeypatch.setenv("SSL_CERT_FILE", str(one_authority(folder)))
        yield server
        assert server.violations == []


def sample(points: Sequence[Point], every: int, first: int) -> Sequence[Point]:
    """Points spread evenly, so that all moments and all agents are among them: `every` shares no factor with 3."""
    return points[first % every :: every]


def age_notes(root: Path, seconds: float = LISTED_AFTER_SECONDS) -> None:
    """Time passes for the submissions of a clone."""
    for file in (root / ".gitune" / "submissions").glob("*/*.json"):
        note = json.loads(file.read_text())
        write_atomic(file, json.dumps({**note, "at": note["at"] - seconds}))


def one_authority(folder: Path) -> Path:
    """A file of one certificate: SDKs read all 140 of certifi for each client, which is most of the time of a call."""
    first, end, _ = certifi.contents().partition("-----END CERTIFICATE-----\n")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "authority.pem").write_text(first + end)
    return folder / "authority.pem"


def _write_dataset(folder: Path, agent: int) -> str:
    """Forty examples that no other agent has. Returns a fingerprint."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"question {number} of agent {agent}"},
                {"role": "assistant", "content": f"intent_{number % 3}"},
            ]
        }
        for number in range(40)
    ]
    write_dataset(folder, rows)
    return hashlib.sha256((folder / "train.jsonl").read_bytes()).hexdigest()
