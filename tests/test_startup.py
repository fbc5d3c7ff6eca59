"""What one waits for before anything happens: what a command imports. scripts/bench startup has the seconds."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import Repository
from tests.repositories import lock_text

RUN = """
import sys
from gitune.commands import run
code = run(sys.argv[1:])
print(*sorted(sys.modules), file=sys.stderr)
sys.exit(code)
"""
HEAVY = {"pulumi", "grpc", "inspect_ai", "torch", "transformers", "ray", "mistralai", "openai", "boto3"} | {
    "huggingface_hub",
    "numpy",
    "pandas",
    "pyarrow",
}


def imported(repository: Repository, *arguments: str) -> set[str]:
    """The modules that a command has imported when it ends."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments], cwd=repository.root, capture_output=True, text=True, check=True
    )
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("completion", "zsh"), ("logs", "--help")], ids=str)
def test_help_needs_next_to_nothing(arguments: tuple[str, ...], repository: Repository) -> None:
    modules = imported(repository, *arguments)
    assert not modules & (HEAVY | {"pydantic", "rich", "yaml", "gitune.project", "gitune.spec"})


def test_status_imports_the_providers_that_it_asks_and_no_engine(repository: Repository) -> None:
    repository.add_agent("support")
    repository.write(".gitune/dev/locks/support/model.lock.yaml", lock_text("1.2.0"))
    modules = imported(repository, "status")
    assert not modules & HEAVY
    asked = {name for name in modules if name.startswith("gitune.providers.")}
    assert not asked & {f"gitune.providers.{name}" for name in ("bedrock", "huggingface", "mistral", "openai", "ray")}


def test_a_plan_without_secrets_starts_no_engine_and_asks_nobody(repository: Repository) -> None:
    repository.add_agent("support")
    modules = imported(repository, "plan", "--static")
    assert not modules & HEAVY
