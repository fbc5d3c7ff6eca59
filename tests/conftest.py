"""A small repository of agents to work on, as a user would have it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from gitune.commands import run

pytest.register_assert_rewrite("gitune.testing.conformance")
if "PYTEST_XDIST_WORKER" in os.environ:
    # One core for each of the two processes: PyTorch's threads of two at once wait for each other, tenfold slower.
    os.environ["OMP_NUM_THREADS"] = "1"

REPOSITORY = Path(__file__).resolve().parent.parent
SYSTEM = "Name the intent of the customer's message."
STACK: dict[str, Any] = {
    "config": {
        "gitune:declare": ["models", "deployments"],
        "gitune:provider": "local",
        "gitune:locks": ".gitune/dev/locks",
        "gitune:routes": ".gitune/dev/routes.json",
    }
}


def agent_yaml(**changes: Any) -> dict[str, Any]:
    """A right agent.yaml with some keys changed."""
    return {
        "description": "Routes messages.",
        "dataset": {"sources": [{"path": "data/train.jsonl", "licence": "Apache-2.0"}], "validation": 0.1},
        "training": [{"provider": "local"}],
        "benchmark": {"cases": "benchmark/cases.jsonl"},
        **changes,
    }


def example(user: str, assistant: str) -> dict[str, Any]:
    roles = {"system": SYSTEM, "user": user, "assistant": assistant}
    return {"messages": [{"role": role, "content": content} for role, content in roles.items()]}


def case(case_id: str, user: str, target: str) -> dict[str, Any]:
    return {"id": case_id, "messages": example(user, target)["messages"][:-1], "target": target}


def jsonl(rows: Sequence[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-crashes", action="store_true", help="kill at every crash point, not at a sample of them")
    parser.addoption("--long", action="store_true", help="run also the tests marked long")


def pytest_configure() -> None:
    """What is started in the background ignores Ctrl-C, and so would every process that a test starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        with contextlib.suppress(ValueError):  # only the main thread may
            signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no process is left alone with one in the end."""
    if not (config.getoption("--long") or config.getoption("--all-crashes")):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("long")])
        items[:] = [item for item in items if not item.get_closest_marker("long")]
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@dataclass(frozen=True)
class Repository:
    root: Path

    def write(self, path: str, content: str | bytes) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
        return target

    def add_agent(
        self,
        name: str,
        spec: dict[str, Any] | None = None,
        examples: Sequence[Any] | None = None,
        cases: Sequence[Any] | None = None,
    ) -> None:
        if examples is None:
            examples = [example(f"message {i} about {i % 3}", f"intent_{i % 3}") for i in range(24)]
        if cases is None:
            cases = [case(f"c{i}", f"question {i} about {i % 3}", f"intent_{i % 3}") for i in range(12)]
        self.write(f"agents/{name}/agent.yaml", yaml.safe_dump(spec or agent_yaml(), sort_keys=False))
        self.write(f"agents/{name}/data/train.jsonl", jsonl(examples))
        self.write(f"agents/{name}/benchmark/cases.jsonl", jsonl(cases))


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """An empty gitune repository, and the current folder."""
    root = tmp_path / "repository"
    (root / "agents").mkdir(parents=True)
    shutil.copy(REPOSITORY / "Pulumi.yaml", root)
    (root / "infra").mkdir()
    shutil.copy(REPOSITORY / "infra" / "__main__.py", root / "infra")
    (root / "Pulumi.dev.yaml").write_text(yaml.safe_dump(STACK))
    monkeypatch.chdir(root)
    return Repository(root)


@pytest.fixture
def gitune(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """The command line, called in this process."""

    def call(*arguments: str) -> Result:
        capsys.readouterr()
        code = run(list(arguments))
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call
