"""Runs the workflows for real, without GitHub: `act` on this machine, a bare repository as origin, stand-ins for
actions that come from github.com. Of a job's set-up only the installation is replaced: `gitune` is the one under test.

act knows no environments with their approvals and own secrets: who calls it decides what a run gets.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.conftest import REPOSITORY, Repository
from tests.repositories import Git
from tests.servers.github import NAME, TOKEN, GitHubServer

VERSION = "v0.2.89"
BUILD_SECONDS = 120
ACTIONS = Path(__file__).parent / "actions"


def find_act() -> Path | str:
    """act, built once from the Go module proxy into the user's cache; or why there is none."""
    tools = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "gitune" / "bin"
    act = tools / f"act-{VERSION}"
    tools.mkdir(parents=True, exist_ok=True)
    with (tools / "act.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if act.is_file():
            return act
        if shutil.which("go") is None:
            return "no Go to build act with"
        with tempfile.TemporaryDirectory() as work:
            environment = {**os.environ, "GOPATH": work, "GOCACHE": f"{work}/build", "GOFLAGS": "-trimpath -modcacherw"}
            command = ["go", "install", f"github.com/nektos/act@{VERSION}"]
            try:
                built = subprocess.run(
                    command, env=environment, capture_output=True, text=True, check=False, timeout=BUILD_SECONDS
                )
            except subprocess.TimeoutExpired:
                return f"act was not built within {BUILD_SECONDS} s"
            if built.returncode:
                return f"act could not be built: {built.stderr[-300:]}"
            shutil.move(f"{work}/bin/act", act)
    return act


@dataclass(frozen=True)
class Run:
    """One run of a workflow."""

    code: int
    log: str
    artifacts: Path
    summary: str

    def jobs(self, outcome: str) -> set[str]:
        """Jobs that ended so: succeeded or failed."""
        return set(re.findall(rf"\[[^/\]]+/([^\]]+?)\s*\].*Job {outcome}", self.log))


@dataclass
class GitHub:
    """What GitHub is to the workflows: the repository, and whoever starts a run."""

    folder: Path
    act: Path
    server: GitHubServer
    """The API, over `origin.git` in the folder."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of every step, such as where a local server is."""
    runs: int = 0

    def __post_init__(self) -> None:
        self.origin = self.server.origin
        subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", self.origin], check=True)
        self.git = Git(self.folder / "clone")
        self.git("remote", "add", "origin", str(self.origin))
        self.repository = Repository(self.git.root)
        for name in (".github", "infra/__main__.py", "Pulumi.yaml", "Pulumi.training.yaml", "Pulumi.production.yaml"):
            target = self.git.root / name
            target.parent.mkdir(exist_ok=True)
            copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
            copy(REPOSITORY / name, target)
        for stack in ("training", "production"):
            with (self.git.root / f"Pulumi.{stack}.yaml").open("a") as file:
                file.write(f"  gitune:store: file://{self.folder}/store\n")
                file.write("  gitune:providers: {mistral: {concurrency: 20, total_jobs: unlimited}}\n")
        self.repository.write(".gitignore", ".gitune/\n.venv/\n")
        setup = _SETUP.format(python=sys.executable, infra=REPOSITORY / "infra", api=self.server.url)
        self.repository.write("scripts/gitune", setup).chmod(0o755)

    def push(self, message: str, branch: str = "main") -> str:
        """Commit everything and push it."""
        commit = self.git.commit(message)
        self.git("push", "--quiet", "origin", f"HEAD:{branch}")
        return commit

    def run(
        self,
        workflow: str,
        event: str,
        payload: Mapping[str, Any],
        *,
        ref: str = "main",
        secrets: Mapping[str, str] = {},
        kill_in: tuple[str, float] | None = None,
    ) -> Run:
        """Run a workflow as it is in `ref`, a branch or commit; `kill_in`: kill -9 so many seconds into this step."""
        self.runs += 1
        folder = self.folder / f"run-{self.runs}-{workflow}"
        source = folder / "source"
        subprocess.run(["git", "clone", "--quiet", self.origin, source], check=True)
        subprocess.run(["git", "fetch", "--quiet", "origin", "+refs/pull/*:refs/pull/*"], cwd=source, check=True)
        subprocess.run(
            ["git", "checkout", "--quiet", "-B", "main", f"origin/{ref}" if ref == "main" else ref],
            cwd=source,
            check=True,
        )
        subprocess.run(["git", "remote", "set-url", "origin", f"https://github.com/{NAME}"], cwd=source, check=True)
        (folder / "event.json").write_text(
            json.dumps({"repository": {"full_name": NAME, "default_branch": "main"}, **payload})
        )
        artifacts, summary = folder / "artifacts", folder / "summary.md"
        artifacts.mkdir()
        environment = {
            "ORIGIN": str(self.origin),
            "ARTIFACTS": str(artifacts),
            "CACHE": str(self.folder / "cache"),
            "GITUNE_GITHUB_PAUSE": "0",
            **self.environment,
        }
        command = [
            str(self.act), event, "--workflows", f".github/workflows/{workflow}.yml", "--eventpath", "../event.json",
            "--platform", "ubuntu-latest=-self-hosted", "--action-cache-path", str(folder / "work"),
            "--no-skip-checkout", "--no-cache-server", "--concurrent-jobs", "1", "--defaultbranch", "main",
            "--var", "GITUNE=on", "--var", f"PULUMI_BACKEND_URL=file://{self.folder}/state?create_dir=true",
        ]  # fmt: skip
        for replaced in _used_actions():
            command += ["--local-repository", f"{replaced}={_stand_in(replaced)}"]
        for name, value in environment.items():
            command += ["--env", f"{name}={value}"]
        for name, value in {
            "GITHUB_TOKEN": TOKEN,
            "PULUMI_CONFIG_PASSPHRASE": "planted-passphrase",
            **secrets,
        }.items():
            command += ["--secret", f"{name}={value}"]
        code, log = _followed(command, source, kill_in)
        return Run(code, log, artifacts, summary.read_text() if summary.is_file() else "")


def _followed(command: Sequence[str], folder: Path, kill_in: tuple[str, float] | None) -> tuple[int, str]:
    """The exit code and all that was said."""
    act = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = []
    with act:
        for line in act.stdout or ():
            lines.append(line)
            if kill_in is not None and re.search(rf"Run Main .*{re.escape(kill_in[0])}", line):
                time.sleep(kill_in[1])
                kill_tree(act.pid)
    return act.returncode, "".join(lines)


def kill_tree(pid: int) -> None:
    """As a machine that is switched off."""
    process = psutil.Process(pid)
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()


def _used_actions() -> set[str]:
    """name@commit of every action that comes from github.com and has a stand-in here."""
    files = [*REPOSITORY.glob(".github/workflows/*.yml"), *REPOSITORY.glob(".github/actions/*/action.yml")]
    uses = re.compile(r"uses: ([\w-]+/[\w-]+)(?:/[\w-]+)?(@[0-9a-f]{40})")
    used = {name + commit for file in files for name, commit in uses.findall(file.read_text())}
    return {use for use in used if _stand_in(use).is_dir()}


def _stand_in(use: str) -> Path:
    return ACTIONS / use.split("@", maxsplit=1)[0].split("/")[1]


_SETUP = """#!/bin/sh
# In place of the installation: the gitune under test, which asks the local server in place of GitHub.
root=$(cd "$(dirname "$0")/.." && pwd -P)
mkdir -p "$root/.venv/bin"
cat > "$root/.venv/bin/gitune" <<'END'
#!/bin/sh
export PYTHONPATH={infra} GITHUB_API_URL={api}
exec {python} -c "from gitune.commands import main; main()" "$@"
END
chmod +x "$root/.venv/bin/gitune"
exec "$root/.venv/bin/gitune" "$@"
"""
