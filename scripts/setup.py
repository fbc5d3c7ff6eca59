"""Set gitune up in .venv: `setup.py base|local|dev`, with the fingerprint of what is wanted on standard input.

Standard library only: it runs before anything is installed. Called by the other scripts, through ensure-ready.sh.
Each step may be repeated, so a failed or interrupted set-up goes on where it stopped. The stamp that says "ready" is
removed before the first change and written after the last.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UV = VENV / "bin" / "uv"
LEVELS = ("base", "local", "dev")
INDENT = " " * 6

# What .venv takes with PyTorch in it, and some room to unpack.
LOCAL_GIGABYTES = 8

Command = Sequence[str | Path]

HINTS = (
    (r"No space left", f"free about {LOCAL_GIGABYTES} GB and run the same command again"),
    (r"ensurepip|No module named (venv|pip)", "install your system's package for Python's venv (python3-venv)"),
    (r"HASHES|hash mismatch|Hash mismatch", "a download differs from its pinned hash: check proxies and mirrors"),
    (
        r"no wheels? with|no matching|not compatible",
        "this Python or platform has no package: name another, GITUNE_PYTHON=/path/to/python3.12",
    ),
    (
        r"dns|resolve|resolution|[Cc]onnect|timed? ?out|Network|[Pp]roxy|certificate|error sending request",
        "check the network, HTTPS_PROXY and your package index, and run the same command again",
    ),
)


class SetupError(Exception):
    """A step failed; the message is complete."""


@dataclass(frozen=True)
class Step:
    """A line for the user, and the commands behind it."""

    title: str
    commands: tuple[Command, ...]
    streams: bool = False


def main() -> int:
    wanted, fingerprint = sys.argv[1], sys.stdin.read()
    try:
        with only_one():
            if is_ready(wanted, fingerprint):
                return 0
            level = max(wanted, *present_levels(), key=LEVELS.index)
            set_up(level)
            for name in LEVELS[: LEVELS.index(level) + 1]:
                write_atomically(stamp(name), with_interpreter(fingerprint))
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted: the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def set_up(level: str) -> None:
    for name in LEVELS:
        stamp(name).unlink(missing_ok=True)
    if level != "base":
        check_disk()
    started = time.monotonic()
    steps = steps_to(level)
    say(f"Setting up gitune in {VENV.name} ({len(steps)} steps, once)\n")
    for number, step in enumerate(steps, start=1):
        run_step(f"[{number}/{len(steps)}] {step.title}", step)
    say(f"Ready after {duration(time.monotonic() - started)}\n")


def steps_to(level: str) -> list[Step]:
    # Small and likely to fail first: a missing network or engine shows before gigabytes were downloaded.
    files = [requirements(name) for name in ("uv", "build", "base", "providers", "local", "base-model", "dev")]
    small, exact = files[:4], files[: {"base": 4, "local": 6, "dev": 7}[level]]
    create: list[Command] = [] if venv_works() else [(sys.executable, "-m", "venv", "--clear", VENV)]
    pip = (PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes")
    install = (UV, "pip", "install", "--python", PYTHON, "--no-deps")
    sync = (UV, "pip", "sync", "--python", PYTHON, "--require-hashes", "--compile-bytecode")
    add = [argument for file in small for argument in ("--requirement", file)]
    what = {
        "base": "Compiling bytecode",
        "local": "Installing PyTorch, Transformers, PEFT, TRL and a small base model (2.5 GB)",
        "dev": "Installing PyTorch, Transformers, PEFT, TRL, a small base model and test tools (2.5 GB)",
    }[level]
    return [
        Step("Creating .venv and installing uv", (*create, (*pip, "--requirement", requirements("uv")))),
        Step(
            "Installing the SDKs of Pulumi and the providers, and small packages",
            ((*install, "--require-hashes", *add),),
        ),
        Step("Finding or installing the Pulumi engine", ((PYTHON, "-m", "gitune.engine.install"),), streams=True),
        Step(what, ((*sync, *exact),)),
        Step("Installing gitune itself", ((*install, "--no-build-isolation", "--editable", ROOT),)),
    ]


def run_step(title: str, step: Step) -> None:
    started = time.monotonic()
    say(f"{title} ..." + ("\n" if step.streams else ""))
    for command in step.commands:
        status, output = stream(command) if step.streams else run_quietly(command, title, started)
        if status:
            raise SetupError(failure(title, command, status, output, said_why=step.streams))
    took = duration(time.monotonic() - started)
    say(f"{INDENT}done in {took}\n" if step.streams else f" {took}\n", rewrite=None if step.streams else f"{title} ...")


def run_quietly(command: Command, title: str, started: float) -> tuple[int, str]:
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        with child(command, stdout=log.fileno()) as process:
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=1)
                if sys.stderr.isatty():
                    say("", rewrite=f"{title} ... {duration(time.monotonic() - started)}")
        log.seek(0)
        return process.returncode, log.read()


def stream(command: Command) -> tuple[int, str]:
    with child(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            say(f"{INDENT}{line}")
        return process.wait(), ""


@contextmanager
def child(command: Command, stdout: int) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
        env=environment(), errors="replace",
    )  # fmt: skip
    try:
        yield process
    except BaseException:
        # Ctrl-C on a terminal reached the child too, and it may be tidying up.
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
        process.terminate()
        process.wait()
        raise


def environment() -> dict[str, str]:
    # gitune is not installed yet when its engine module runs. An active virtual environment must not be taken for ours.
    kept = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONHOME")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**kept, "PYTHONPATH": str(ROOT / "infra"), "UV_PYTHON_DOWNLOADS": "never"}


def venv_works() -> bool:
    if not PYTHON.exists():
        return False
    test = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
    return subprocess.run([PYTHON, "-c", test], capture_output=True, check=False).returncode == 0


def check_disk() -> None:
    installed = any(VENV.glob("lib/python3*/site-packages/torch/version.py"))
    free = shutil.disk_usage(ROOT).free / 1e9
    if not installed and free < LOCAL_GIGABYTES:
        raise SetupError(
            f"error: only {free:.1f} GB are free for {VENV}; PyTorch and the rest take about {LOCAL_GIGABYTES} GB\n"
            "hint: free some space; or leave local training out: GITUNE_SETUP=base scripts/gitune"
        )


def failure(title: str, command: Command, status: int, output: str, said_why: bool) -> str:
    if said_why:
        return f"{INDENT}failed; the same command goes on from here"
    last = "\n".join(f"{INDENT}{line}" for line in output.strip().splitlines()[-12:])
    hint = next((hint for pattern, hint in HINTS if re.search(pattern, output)), "run the same command again")
    name = " ".join(Path(part).name if index == 0 else str(part) for index, part in enumerate(command[:3]))
    return f" failed\n{last}\nerror: {title.split('] ')[1]}: `{name} ...` ended with status {status}\nhint: {hint}"


@contextmanager
def only_one() -> Iterator[None]:
    """Two set-ups of one .venv would break each other: the second waits."""
    path = ROOT / ".gitune" / "setup.lock"
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("Waiting for another set-up of this folder\n")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def present_levels() -> list[str]:
    """Whoever had test tools keeps them when requirements change."""
    return [name for name in LEVELS if stamp(name).exists()] or ["base"]


def is_ready(level: str, fingerprint: str) -> bool:
    """The same question as in ensure-ready.sh, asked again because another set-up may have answered it meanwhile."""
    return PYTHON.exists() and stamp(level).is_file() and stamp(level).read_text() == with_interpreter(fingerprint)


def with_interpreter(fingerprint: str) -> str:
    return f"{fingerprint}{PYTHON.resolve()}\n"


def stamp(level: str) -> Path:
    return VENV / f".gitune-ready-{level}"


def requirements(name: str) -> Path:
    return ROOT / "requirements" / f"{name}.txt"


def write_atomically(path: Path, text: str) -> None:
    draft = path.with_name(f"{path.name}.tmp")
    draft.write_text(text)
    draft.replace(path)


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{int(seconds) // 60} min {int(seconds) % 60} s"


def say(text: str, rewrite: str | None = None) -> None:
    """Print to standard error; on a terminal `rewrite` replaces the line before `text` is added to it."""
    if rewrite is not None and sys.stderr.isatty():
        text = f"\r\033[K{rewrite}{text}"
    print(text, end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
