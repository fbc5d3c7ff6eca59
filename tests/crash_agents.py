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
from typing import Any

from gitune.files import read_json, write_atomic
from gitune.providers import provider_class
from gitune.providers.base import Provider, TrainingRequest
from gitune.reconcile import UNSETTLED, ModelState, advance, observe

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


def step(recorded: ModelState | None, request: TrainingRequest, dataset: Path, open_provider: Any) -> ModelState:
    """What the engine has done for one agent in one pass: refresh, then create or update what is not settled."""
    state = None if recorded is None else observe(recorded, open_provider)
    if state is None or state.status in UNSETTLED:
        return advance([request], dataset, open_provider)
    return state


def train_all(run: Run) -> int:
    """Passes over all agents until each has its model. Each state is written as soon as it is known."""
    root, requests = Path(run.root), [TrainingRequest(**fields) for fields in run.requests]
    made = provider_class(requests[0].provider)

    def open_provider(_name: str) -> Provider:
        return made(made.settings.model_validate(run.settings), root)

    for _ in range(run.passes):
        statuses = []
        for agent, request in enumerate(requests):
            recorded = read_json(state_file(root, agent))
            known = ModelState.from_outputs(recorded) if recorded else None
            state = known
            if known is None or known.status != "succeeded":
                state = step(known, request, Path(run.datasets[agent]), open_provider)
            if state is not None and state != known:
                write_atomic(state_file(root, agent), json.dumps(state.outputs()))
            statuses.append(state.status if state else "")
        if set(statuses) == {"succeeded"}:
            return DONE
    return UNFINISHED


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
