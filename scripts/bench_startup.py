"""What one waits for before anything happens: `gitune --help`, `gitune status`, and `gitune up` with nothing to do.

On the five agents of this repository, trained once and deployed by tests/servers' Mistral: their examples are what is
checked each time, with five cases each. The median of a few runs, and beside it what Python alone takes.
`scripts/bench startup [--runs N]`; the numbers are worth what the machine's load was, which is told.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))  # tests.servers is no part of the package

from tests.servers import mistral  # noqa: E402

GITUNE = str(Path(sys.executable).with_name("gitune"))
CASES = 5
WANTED: Mapping[str, tuple[Sequence[str], float | None]] = {
    "python -c pass": ((sys.executable, "-c", "pass"), None),
    "gitune --help": ((GITUNE, "--help"), 0.3),
    "gitune status": ((GITUNE, "status", "-s", "bench"), 0.6),
    "gitune up, five agents, nothing to do": ((GITUNE, "up", "-s", "bench"), 3.0),
}
"""What is timed, and the most seconds that it may take."""


def write_repository(root: Path) -> None:
    """This repository's agents on a stack that trains and serves at Mistral, with few cases and an open gate."""
    (root / "infra").mkdir()
    for name in ("Pulumi.yaml", "infra/__main__.py"):
        shutil.copy(REPOSITORY / name, root / name)
    shutil.copytree(REPOSITORY / "agents", root / "agents", ignore=shutil.ignore_patterns("model.lock.yaml"))
    config = {
        "gitune:declare": ["models", "deployments"],
        "gitune:provider": "mistral",
        "gitune:locks": ".gitune/bench/locks",
        "gitune:routes": ".gitune/bench/routes.json",
    }
    (root / "Pulumi.bench.yaml").write_text(yaml.safe_dump({"config": config}), encoding="utf-8")
    for file in root.glob("agents/*/agent.yaml"):
        spec = yaml.safe_load(file.read_text(encoding="utf-8"))
        spec["gate"] = {"min_improvement": -1.0, "max_regression": 1.0, "max_latency_seconds": 60}
        file.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
        cases = file.parent / spec["benchmark"]["cases"]
        cases.write_text("".join(cases.read_text(encoding="utf-8").splitlines(keepends=True)[:CASES]), encoding="utf-8")


def seconds(command: Sequence[str], root: Path, environment: Mapping[str, str]) -> float:
    started = time.perf_counter()
    done = subprocess.run(
        command, cwd=root, env=dict(environment), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    took = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return took


def measured(runs: int) -> dict[str, list[float]]:
    """Seconds of each run, by what was timed. In turns, so that a busy moment of the machine meets all alike."""
    with tempfile.TemporaryDirectory(prefix="gitune-bench-") as folder, mistral.MistralServer() as server:
        root = Path(folder)
        write_repository(root)
        environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
            "PYTHONPATH": f"{REPOSITORY / 'infra'}{os.pathsep}{REPOSITORY}",
            "MISTRAL_API_KEY": mistral.KEY,
            "MISTRAL_BASE_URL": server.url,
            "NO_COLOR": "1",
        }
        server.seconds_per_request = 120.0
        print(
            f"training and deploying: {seconds((GITUNE, 'up', '-s', 'bench'), root, environment):.1f} s",
            file=sys.stderr,
        )
        found: dict[str, list[float]] = {name: [] for name in WANTED}
        for _ in range(runs):
            for name, (command, _most) in WANTED.items():
                found[name].append(seconds(command, root, environment))
        return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench startup", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    before = os.getloadavg()[0]
    found = measured(arguments.runs)
    medians = {name: statistics.median(times) for name, times in found.items()}
    if arguments.json:
        print(json.dumps({"seconds": found, "load_before": before, "cores": os.cpu_count()}, indent=2))
    else:
        print(f"{os.cpu_count()} cores, load {before:.2f} before; median of {arguments.runs}, in seconds")
        for name, median in medians.items():
            most = WANTED[name][1]
            print(f"{name:40}{median:7.2f}" + (f"   wanted: under {most:g}" if most else ""))
    return int(any(most is not None and medians[name] >= most for name, (_, most) in WANTED.items()))


if __name__ == "__main__":
    sys.exit(main())
