"""`gitune` as the workflows call it. `gitune github` is recorded, and what it does to branches done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

INFRA = Path(__file__).resolve().parents[2] / "infra"


def main(arguments: list[str]) -> int:
    os.environ["PYTHONPATH"] = str(INFRA)
    if arguments[0] == "github":
        with Path(os.environ["RECORD"]).open("a") as record:
            record.write(json.dumps(arguments[1:]) + "\n")
        return {"propose": propose, "revert": revert}.get(arguments[1], int)()
    command = [sys.executable, "-c", "from gitune.commands import main; main()", *arguments]
    return subprocess.run(command, check=False).returncode


def propose() -> int:
    """A branch for each new lock."""
    changed = subprocess.check_output(["git", "status", "--porcelain", "-uall", "agents"], text=True).split()[1::2]
    for agent in sorted({Path(file).parts[1] for file in changed}):
        git("checkout", "-B", f"gitune/lock/{agent}")
        git("add", f"agents/{agent}")
        git("commit", "-m", f"Lock {agent}")
        git("push", "--force", "origin", f"gitune/lock/{agent}")
        git("checkout", "main")
    return 0


def revert() -> int:
    """A branch without the merge that failed."""
    git("checkout", "--force", "-B", "gitune/revert")
    git("revert", "--no-edit", "--mainline", "1", "HEAD")
    git("push", "--force", "origin", "gitune/revert")
    return 0


def git(command: str, *arguments: str) -> None:
    who = ["-c", "user.name=gitune", "-c", "user.email=gitune@example.org"]
    subprocess.run(["git", *who, command, *arguments], check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
