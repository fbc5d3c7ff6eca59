"""Somebody who types what a page of the docs says, line by line, into one shell.

gitune is the real one. Programs of others that want an account (gh, aws, gcloud, az) or would change the machine (pip,
ray) are noted and succeed: their lines are held to nothing but the shell's grammar.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gitune.engine.cache import cache_folder
from tests.conftest import REPOSITORY
from tests.journey import GITUNE

NOTED = ("gh", "aws", "gcloud", "az", "pip", "ray")
_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def code(page: str, language: str = "sh") -> list[str]:
    """The page's blocks of this language."""
    found = _BLOCK.findall((REPOSITORY / page).read_text(encoding="utf-8"))
    return [textwrap.dedent(block).replace("\\\n", " ") for _, marked, block in found if marked == language]


@dataclass
class Shell:
    """What is exported and the current folder stay from line to line."""

    folder: Path
    environment: dict[str, str]

    @staticmethod
    def beside(root: Path, **environment: str) -> Shell:
        """A shell in `root`, at home in a folder beside it."""
        home = root.parent / "home"
        programs = home / "bin"
        programs.mkdir(parents=True)
        (programs / "gitune").symlink_to(GITUNE)
        own = {name: f'echo "{name} $*" >> {shlex.quote(str(home))}/noted' for name in NOTED}
        own["python3"] = f'exec {sys.executable} "$@" --without-pip'  # a virtual environment, in a tenth of a second
        for name, line in own.items():
            (programs / name).write_text(f"#!/bin/sh\n{line}\n")
            (programs / name).chmod(0o755)
        variables = {"HOME": str(home), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1"}
        variables["XDG_CACHE_HOME"] = str(cache_folder().parent)  # where the engine is
        git = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        for role in ("AUTHOR", "COMMITTER"):
            git |= {f"GIT_{role}_NAME": "Ada Byron", f"GIT_{role}_EMAIL": "ada@example.org"}
        return Shell(root, {**os.environ, "HF_HUB_OFFLINE": "1", **variables, **git, **environment})

    def types(self, line: str, ends: int = 0, seconds: float = 300) -> str:
        """What the line says on both channels; it must end with this exit code."""
        left = Path(self.environment["HOME"]) / "left"
        keep = f'trap \'code=$?; pwd > "{left}.pwd"; env -0 > "{left}"; exit $code\' EXIT'
        done = subprocess.run(
            ["bash", "-c", f"{keep}\n{line}"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == ends, f"{line}\n{done.stdout}{done.stderr}"
        self.folder = Path(left.with_suffix(".pwd").read_text().rstrip("\n"))
        self.environment = dict(entry.split("=", 1) for entry in left.read_text().split("\0") if entry)
        return done.stdout + done.stderr

    @contextmanager
    def starts(self, line: str, until: str) -> Iterator[str]:
        """A line that goes on until the block ends; yields what it said up to the line with `until`."""
        process = subprocess.Popen(
            ["bash", "-c", f"exec {line}"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with process:
            try:
                assert process.stdout is not None
                said = ""
                while until not in said:
                    more = process.stdout.readline()
                    assert more, said
                    said += more
                yield said
            finally:
                process.send_signal(signal.SIGINT)

    def noted(self) -> list[str]:
        """The lines for programs of others, so far."""
        file = Path(self.environment["HOME"]) / "noted"
        return file.read_text().splitlines() if file.exists() else []


class Page:
    """The blocks of one page, to be typed one after the other. `instead` has what stands for words of the page."""

    def __init__(self, shell: Shell, path: str, instead: Mapping[str, str] | None = None) -> None:
        self._shell, self.instead = shell, dict(instead or {})
        self.left = code(path)

    def types(self, begins: str, *, ends: Sequence[int] = ()) -> str:
        """Type the next block, which begins so. `ends` are the exit codes of its lines; those left out are 0."""
        return "".join(self.said(begins, ends=ends))

    def said(self, begins: str, *, ends: Sequence[int] = ()) -> list[str]:
        """The same, line by line."""
        lines = self.next(begins)
        codes = [*ends, *[0] * (len(lines) - len(ends))]
        return [self._shell.types(line, code) for line, code in zip(lines, codes, strict=True)]

    def next(self, begins: str) -> list[str]:
        """The lines of the next block, which begins so."""
        block = self.left.pop(0)
        assert block.strip().startswith(begins), block
        for words, others in self.instead.items():
            block = block.replace(words, others)
        return [line.strip() for line in block.splitlines() if line.strip()]
