"""The command of the status report of 2025-10-31, as it stands there."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

REPORT = REPOSITORY.parent / "shared" / "genesis-status-2025-10-31.md"
QA = (
    "python3 scripts/test_finetuned_model.py --model ft:open-mistral-7b:5010731d:20251031:ecc3829c --agent qa_agent "
    "--test_cases 10"
)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The script and the agents' names; in place of gitune, something that shows what it was called with."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(REPOSITORY / "scripts" / "test_finetuned_model.py", tmp_path / "scripts")
    for agent in ("qa", "content", "legal"):
        (tmp_path / "agents" / agent).mkdir(parents=True)
        (tmp_path / "agents" / agent / "agent.yaml").touch()
    gitune = tmp_path / "scripts" / "gitune"
    gitune.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    gitune.chmod(0o755)
    return tmp_path


def called(clone: Path, command: str) -> tuple[list[str], str]:
    words = [sys.executable, *shlex.split(command)[1:]]
    done = subprocess.run(words, cwd=clone, capture_output=True, text=True, check=True)
    return done.stdout.split(), done.stderr


def test_it_is_a_benchmark_of_this_model(clone: Path) -> None:
    arguments, said = called(clone, QA)
    model = "mistral:ft:open-mistral-7b:5010731d:20251031:ecc3829c"
    assert arguments == ["benchmark", "qa", "--stack", "training", "--model", model, "--cases", "10"]
    assert "10 cases prove nothing" in said


def test_every_command_of_the_report_works(clone: Path) -> None:
    if not REPORT.is_file():
        pytest.skip("the report is not beside the repository")
    text = REPORT.read_text(encoding="utf-8").replace("\\\n", " ")
    commands = re.findall(r"^python3 scripts/test_finetuned_model\.py.*$", text, re.MULTILINE)
    assert [called(clone, command)[0][1] for command in commands] == ["qa", "content", "legal"]


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("ft:gpt-4o-mini-2024-07-18:acme::abc", "openai"),
        ("ft:ministral-3b:1:2:3", "mistral"),
        ("arn:aws:bedrock:us-west-2:1:custom-model/x", "bedrock"),
        ("0673f1f1a0d39271", "local"),
    ],
)
def test_provider_is_told_from_the_id(clone: Path, model: str, provider: str) -> None:
    arguments, said = called(clone, f"python3 scripts/test_finetuned_model.py --model {model} --agent qa")
    assert arguments[-1] == f"{provider}:{model}"
    assert said == ""
