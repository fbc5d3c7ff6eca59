"""Five agents of one provider without the engine, as a program that may be killed: python -m tests.crash_agents.

Reads runs from standard input, a line of JSON each. Answers each with two lines: the process ID of the run, and how it
ended: its exit code, or the negative number of the signal that killed it. A run is a fork of this process, which has
one thread and has imported what the runs import, so that a run starts in milliseconds.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gitune.errors import ProviderError
from gitune.files import read_json, write_atomic
from gitune.providers import provider_class
from gitune.providers.base import Provider, TrainingRequest
from gitune.providers.settings import ProviderSettings
from gitune.reconcile import ModelState, refuse, submit
from gitune.round import take_round
from gitune.wishes import Wish

DONE, UNFINISHED, INTERRUPTED = 0, 2, 130


@dataclass(frozen=True)
class Run:
    """What is to be trained, and how far."""

    root: str
    """The clone: submissions below .gitune, the recorded states below states."""
    environment: Mapping[str, str]
    settings: Mapping[str, Any]
    requests: Sequence[Mapping[str, Any]]
    """One TrainingRequest for each agent, as its fields."""
    datasets: Sequence[str]
    passes: int = 50
    die_at_write: int = 0
    """The atomic write, from 1, before which the run sends itself `signal`. 0: none."""
    signal: int = 0

    def line(self) -> str:
        return json.dumps(asdict(self))


def state_file(root: Path, agent: int) -> Path:
    return root / "states" / f"{agent}.json"


def writes_file(root: Path) -> Path:
    """How many atomic writes the last run that came to its end made, and the modules that it imported."""
    return root / "run.json"


@dataclass(frozen=True)
class _Project:
    """What a round asks of a project."""

    root: Path
    block: Mapping[str, Any]

    def settings(self, name: str) -> ProviderSettings:
        return provider_class(name).settings.model_validate(self.block)

    def provider(self, name: str) -> Provider:
        return provider_class(name)(self.settings(name), self.root)

    def lock_file(self, agent: str) -> Path:
        return self.root / "agents" / agent / "model.lock.yaml"


def one_pass(run: Run, wishes: Sequence[Wish], now: float) -> bool:
    """What `up` does in one pass: a round, and what the engine makes of it, recorded agent by agent.

    Returns whether every agent has its model.
    """
    root = Path(run.root)
    project: Any = _Project(root, {**run.settings, "concurrency": 9, "total_jobs": "unlimited"})
    written = {wish.agent: read_json(state_file(root, int(wish.agent))) for wish in wishes}
    recorded = {agent: ModelState.from_outputs(facts) for agent, facts in written.items() if facts}
    taken = take_round(project, wishes, recorded, now)
    for wish in wishes:
        target = taken.targets[wish.agent]
        if not target.differs(recorded.get(wish.agent, ModelState("lost"))):
            continue
        state = target.state
        if target.submit is not None:
            request = wish.requests[target.submit]
            try:
                state = submit(target, request, Path(run.datasets[int(wish.agent)]), project.provider)
            except ProviderError as error:
                state = refuse(target, request, error, now)
        write_atomic(state_file(root, int(wish.agent)), json.dumps(state.outputs()))
    return all(target.state.status == "succeeded" for target in taken.targets.values())


def train_all(run: Run) -> int:
    """Passes over all agents until each has its model, ten minutes apart, so that nobody waits for a backoff."""
    requests = [TrainingRequest(**fields) for fields in run.requests]
    wishes = [_wish(str(number), request) for number, request in enumerate(requests)]
    clock = Path(run.root, "clock")
    for _ in range(run.passes):
        now = (float(clock.read_text()) if clock.exists() else 1_790_000_000.0) + 600.0
        clock.write_text(str(now))
        if one_pass(run, wishes, now):
            return DONE
    return UNFINISHED


def _wish(agent: str, request: TrainingRequest) -> Wish:
    spec: Any = SimpleNamespace(name=agent)
    return Wish(spec, (request,), 1, (None,), ("",))


class _Writes:
    """Counts atomic writes as they are about to happen, and ends the process at one of them."""

    def __init__(self, run: Run) -> None:
        self.count = 0
        self._run = run
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and str(arguments[1]).startswith(self._run.root):
            self.count += 1
            if self.count == self._run.die_at_write:
                os.kill(os.getpid(), self._run.signal)


def _child(run: Run) -> int:
    os.environ.update(run.environment)
    writes = _Writes(run)
    try:
        code = train_all(run)
    except KeyboardInterrupt:
        return INTERRUPTED
    writes_file(Path(run.root)).write_text(json.dumps({"writes": writes.count, "modules": list(sys.modules)}))
    return code


def _warm(run: Run) -> None:
    """Import what a run has imported, so that the next need not."""
    for name in (read_json(writes_file(Path(run.root))) or {}).get("modules", ()):
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def main() -> None:
    warm: set[str] = set()
    for line in sys.stdin:
        run = Run(**json.loads(line))
        pid = os.fork()
        if pid == 0:
            os._exit(_child(run))
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        provider = run.requests[0]["provider"]
        if provider not in warm:
            _warm(run)
            warm.add(provider)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
