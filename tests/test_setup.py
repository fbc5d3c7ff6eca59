"""The scripts that set gitune up: when they do, when they do not, and what a failure says."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Stands in for Python: notes that a set-up ran, and leaves behind what one leaves behind.
FAKE_PYTHON = """#!/bin/sh
if [ "$1" = -c ]; then exit 0; fi
venv=$(dirname "$1")/../.venv
mkdir -p "$venv/bin"
cat > "$venv/.gitune-ready-$2"
echo "$2" >> "$venv/../setups"
printf '#!/bin/sh\\necho "gitune $*"\\n' > "$venv/bin/gitune"
printf '#!/bin/sh\\n' > "$venv/bin/python"
chmod +x "$venv/bin/gitune" "$venv/bin/python"
readlink -f "$venv/bin/python" >> "$venv/.gitune-ready-$2"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the files that decide about a set-up, without .venv."""
    folder = tmp_path / "a checkout"
    for part in ("scripts", "requirements", "infra/gitune/engine"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    python = tmp_path / "fake-python"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    return folder


def run_gitune(checkout: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "GITUNE_SETUP"}
    fake = {"GITUNE_PYTHON": str(checkout.parent / "fake-python")}
    return subprocess.run(
        [checkout / "scripts" / "gitune", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**kept, **fake, **environment},
    )


def setups(checkout: Path) -> list[str]:
    return (checkout / "setups").read_text().split()


def test_the_first_call_sets_up_and_the_second_does_not(checkout: Path) -> None:
    first = run_gitune(checkout, "plan", "--agent", "two words")
    assert (first.returncode, first.stdout) == (0, "gitune plan --agent two words\n")

    started = time.monotonic()
    second = run_gitune(checkout, "up")
    assert time.monotonic() - started < 1
    assert (second.returncode, second.stdout, second.stderr) == (0, "gitune up\n", "")
    assert setups(checkout) == ["local"]


@pytest.mark.parametrize("changed", ["requirements/base.txt", "pyproject.toml", "scripts/setup.py"])
def test_a_changed_file_sets_up_again(checkout: Path, changed: str) -> None:
    run_gitune(checkout)
    with (checkout / changed).open("a") as file:
        file.write("\n# changed\n")
    run_gitune(checkout)
    run_gitune(checkout)
    assert setups(checkout) == ["local", "local"]


def test_a_moved_folder_sets_up_again(checkout: Path) -> None:
    run_gitune(checkout)
    moved = checkout.rename(checkout.with_name("moved"))
    run_gitune(moved)
    assert setups(moved) == ["local", "local"]


def test_a_lost_interpreter_sets_up_again(checkout: Path) -> None:
    run_gitune(checkout)
    (checkout / ".venv" / "bin" / "python").unlink()
    run_gitune(checkout)
    assert setups(checkout) == ["local", "local"]


def test_another_interpreter_behind_the_same_name_sets_up_again(checkout: Path, tmp_path: Path) -> None:
    run_gitune(checkout)
    python = checkout / ".venv" / "bin" / "python"
    python.rename(tmp_path / "python3.13")
    python.symlink_to(tmp_path / "python3.13")
    run_gitune(checkout)
    assert setups(checkout) == ["local", "local"]


def test_a_machine_that_only_plans_can_do_without_pytorch(checkout: Path) -> None:
    run_gitune(checkout, GITUNE_SETUP="base")
    run_gitune(checkout, GITUNE_SETUP="base")
    assert setups(checkout) == ["base"]


def test_without_python_there_is_a_hint(checkout: Path, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "dirname", "cat", "cmp"):
        (programs / name).symlink_to(str(shutil.which(name)))
    # A shim that knows no such version, as pyenv leaves them on PATH.
    shim = programs / "python3.12"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)

    answer = run_gitune(checkout, PATH=str(programs), GITUNE_PYTHON="no-such-python")

    assert answer.returncode == 1
    assert "error: gitune needs Python 3.11 or newer" in answer.stderr
    assert "hint: " in answer.stderr


def start_setup(checkout: Path, fingerprint: str, **environment: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, checkout / "scripts" / "setup.py", "base"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(fingerprint)
    process.stdin.close()
    process.stdin = None
    return process


def test_a_failed_step_says_what_failed_and_what_to_do(checkout: Path) -> None:
    process = start_setup(checkout, "wanted", PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    stdout, stderr = process.communicate(timeout=60)

    assert process.returncode == 1
    assert stdout == ""
    assert "[1/5] Creating .venv and installing uv ... failed" in stderr
    assert "No matching distribution found for uv" in stderr
    assert "\nerror: " in stderr
    assert "\nhint: " in stderr
    assert not list((checkout / ".venv").glob(".gitune-ready*"))


def test_ctrl_c_ends_with_130_and_no_stamp(checkout: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent_index:
        silent_index.settimeout(60)
        port = silent_index.getsockname()[1]
        process = start_setup(checkout, "wanted", PIP_INDEX_URL=f"http://127.0.0.1:{port}/", PIP_FIND_LINKS="")
        connection, _ = silent_index.accept()
        with connection:
            os.killpg(process.pid, signal.SIGINT)
            _, stderr = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    assert not list((checkout / ".venv").glob(".gitune-ready*"))


def test_a_second_setup_waits_for_the_first_and_then_has_nothing_to_do(checkout: Path) -> None:
    (checkout / ".gitune").mkdir()
    with (checkout / ".gitune" / "setup.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = start_setup(checkout, "wanted")
        assert process.stderr is not None
        assert process.stderr.readline() == "Waiting for another set-up of this folder\n"
        python = checkout / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.touch()
        (checkout / ".venv" / ".gitune-ready-base").write_text(f"wanted{python.resolve()}\n")
    _, stderr = process.communicate(timeout=60)

    assert (process.returncode, stderr) == (0, "")
