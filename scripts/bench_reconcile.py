"""What a stack costs by the number of its agents: seconds and HTTP requests to plan, to create and to do nothing.

All against the Bedrock server of tests/servers on this machine, whose jobs are accepted at once and never end:

    gitune      `gitune plan` of a new stack, one pass that submits a job for each agent, `gitune plan` again
    terraform   the same with aws_bedrock_custom_model and count, where `terraform` and its AWS provider can be had;
                its training data is on the server already, gitune builds, checks and uploads its own
    empty       `pulumi preview` of a program without a resource, by the engine that gitune runs

and the makespan of many agents in simulation, against what no order can beat.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))  # tests.servers and tests.fleet are no part of the package

from tests.fleet import write_fleet  # noqa: E402
from tests.servers import bedrock  # noqa: E402
from tests.servers.jobs import Limits  # noqa: E402
from tests.simulation import makespan_ratio  # noqa: E402

AGENTS = (5, 50, 500)
EXAMPLES = 40
STEPS = ("plan", "create", "no-op plan")
MOST_SECONDS = 3.0
"""That a plan with nothing to do may take beyond an empty program's."""
MOST_AGENTS = 100
"""For whom that holds."""
_BASE_ARN = f"arn:aws:bedrock:{bedrock.REGION}::foundation-model/{bedrock.BASE_MODEL}"
_ONE_PASS = "import sys; from pathlib import Path; from tests.fleet import one_pass; one_pass(Path(sys.argv[1]))"


@dataclass(frozen=True)
class Row:
    """One step of one entrant."""

    entrant: str
    agents: int
    step: str
    seconds: float
    requests: int


class Failed(Exception):
    """A command of an entrant ended badly; its last words."""


class Missing(Exception):
    """What an entrant needs is not on this machine."""


@contextmanager
def account() -> Iterator[bedrock.BedrockServer]:
    """A server whose account has no limit."""
    with bedrock.BedrockServer() as server:
        server.jobs.limits = Limits()
        server.base_models |= {_BASE_ARN}
        yield server


def environment(server: bedrock.BedrockServer) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": f"{REPOSITORY / 'infra'}{os.pathsep}{REPOSITORY}",
        "AWS_ACCESS_KEY_ID": bedrock.KEY_ID,
        "AWS_SECRET_ACCESS_KEY": bedrock.SECRET,
        "AWS_REGION": bedrock.REGION,
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ENDPOINT_URL_S3": f"{server.url}/s3",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_COLOR": "1",
    }


def call(command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> float:
    """Seconds that a command took. Raises Failed."""
    started = time.perf_counter()
    answer = subprocess.run(
        command, cwd=folder, env=dict(variables), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    if answer.returncode:
        words = (answer.stderr.strip() or answer.stdout.strip()).splitlines() or ["no output"]
        raise Failed(f"{Path(command[0]).name} ended with {answer.returncode}: {words[-1]}")
    return seconds


def measure_gitune(agents: int, folder: Path) -> Iterator[Row]:
    settings = {"region": bedrock.REGION, "role_arn": bedrock.ROLE, "bucket": bedrock.BUCKET}
    limits = {"concurrency": 10_000, "total_jobs": "unlimited"}
    root = write_fleet(
        folder,
        agents,
        training=({"provider": "bedrock"},),
        providers={"bedrock": {**settings, **limits}},
        examples=EXAMPLES,
    )
    plan = [str(Path(sys.executable).with_name("gitune")), "plan", "-s", "training"]
    commands = (plan, [sys.executable, "-c", _ONE_PASS, str(root)], plan)
    yield from _steps("gitune", agents, root, commands)


def measure_terraform(agents: int, folder: Path) -> Iterator[Row]:
    """`terraform init`, which downloads the AWS provider, is not timed."""
    if shutil.which("terraform") is None:
        raise Missing("it is not on PATH")
    folder.mkdir()
    plan = ["terraform", "plan", "-input=false", "-no-color"]
    apply = ["terraform", "apply", "-input=false", "-no-color", "-auto-approve"]

    def prepare(server: bedrock.BedrockServer) -> None:
        (folder / "main.tf.json").write_text(json.dumps(_terraform(server.url, agents), indent=2))
        rows = "".join(json.dumps(_row(i)) + "\n" for i in range(EXAMPLES))
        server.contents[f"s3://{bedrock.BUCKET}/train.jsonl"] = rows.encode()
        try:
            call(["terraform", "init", "-input=false", "-no-color"], folder, environment(server))
        except Failed as error:
            raise Missing("its AWS provider cannot be had here (terraform init failed)") from error

    yield from _steps("terraform", agents, folder, (plan, apply, plan), prepare)


def measure_empty(folder: Path) -> Row:
    """The same engine, and a program that declares nothing."""
    (folder / "infra").mkdir(parents=True)
    shutil.copy(REPOSITORY / "Pulumi.yaml", folder)
    (folder / "Pulumi.training.yaml").write_text("config: {}\n")
    (folder / "infra" / "__main__.py").write_text("import pulumi\n")
    with account() as server:
        variables = environment(server)
        pulumi = [str(Path(sys.executable).with_name("gitune")), "pulumi"]
        call([*pulumi, "stack", "init", "training"], folder, variables)
        seconds = call([*pulumi, "preview", "-s", "training", "--non-interactive"], folder, variables)
    return Row("empty", 0, "no-op plan", seconds, 0)


def _steps(
    entrant: str,
    agents: int,
    folder: Path,
    commands: Sequence[Sequence[str]],
    prepare: Callable[[bedrock.BedrockServer], None] = lambda server: None,
) -> Iterator[Row]:
    with account() as server:
        prepare(server)
        for step, command in zip(STEPS, commands, strict=True):
            before = len(server.requests)
            seconds = call(command, folder, environment(server))
            yield Row(entrant, agents, step, seconds, len(server.requests) - before)
        if len(server.jobs.all) != agents:
            raise Failed(f"{len(server.jobs.all)} jobs for {agents} agents")


def _terraform(url: str, agents: int) -> dict[str, object]:
    """Arguments as the provider's documentation has them; its version is the last major one that it describes."""
    model = {
        "count": agents,
        "custom_model_name": "agent-${count.index}",
        "job_name": "agent-${count.index}",
        "base_model_identifier": _BASE_ARN,
        "role_arn": bedrock.ROLE,
        "customization_type": "FINE_TUNING",
        "hyperparameters": {"epochCount": "2", "batchSize": "32", "learningRateMultiplier": "1"},
        "output_data_config": {"s3_uri": f"s3://{bedrock.BUCKET}/output/"},
        "training_data_config": {"s3_uri": f"s3://{bedrock.BUCKET}/train.jsonl"},
    }
    provider = {
        "region": bedrock.REGION,
        "skip_credentials_validation": True,
        "skip_metadata_api_check": True,
        "skip_requesting_account_id": True,
        "endpoints": [{"bedrock": url}],
    }
    return {
        "terraform": {"required_providers": {"aws": {"source": "hashicorp/aws", "version": "~> 6.0"}}},
        "provider": {"aws": provider},
        "resource": {"aws_bedrock_custom_model": {"agent": model}},
    }


def _row(number: int) -> dict[str, object]:
    said = {"user": f"message {number}", "assistant": f"intent_{number % 3}"}
    return {"messages": [{"role": role, "content": text} for role, text in said.items()]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, nargs="+", default=AGENTS)
    parser.add_argument("--only", nargs="*", choices=("gitune", "terraform"), default=("gitune", "terraform"))
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    rows: list[Row] = []
    missing: list[str] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="gitune-bench-") as name:
        folder = Path(name)
        for row in _measured(folder, arguments.agents, arguments.only, missing, failed):
            print(f"{row.entrant} {row.agents} {row.step}: {row.seconds:.2f} s", file=sys.stderr)
            rows.append(row)
    makespans = {
        f"{provider}, limits {'declared' if declared else 'learned'}": makespan_ratio(
            provider=provider, declared=declared
        )
        for provider in ("openai", "mistral")
        for declared in (True, False)
    }
    if arguments.json:
        found = {"rows": [asdict(row) for row in rows], "makespans": makespans, "missing": missing, "failed": failed}
        print(json.dumps(found, indent=2))
    else:
        report(rows, [*missing, *failed])
        print("makespan in simulation, 500 agents of 5 to 15 minutes, 20 at once, against what no order can beat:")
        for name, ratio in makespans.items():
            print(f"  {name}: {ratio:.3f}")
    return 1 if failed else 0


def _measured(
    folder: Path, counts: Iterable[int], only: Sequence[str], missing: list[str], failed: list[str]
) -> Iterator[Row]:
    yield measure_empty(folder / "empty")
    measures = {"gitune": measure_gitune, "terraform": measure_terraform}
    for entrant in only:
        for agents in counts:
            try:
                yield from measures[entrant](agents, folder / f"{entrant}-{agents}")
            except Missing as error:
                missing.append(f"{entrant}: {error}; nothing is compared with it")
                break
            except Failed as error:
                failed.append(f"{entrant} {agents}: {error}")
                break


def report(rows: Sequence[Row], notes: Sequence[str]) -> None:
    seconds = {(row.entrant, row.agents, row.step): row.seconds for row in rows}
    empty = seconds["empty", 0, "no-op plan"]
    print(f"{os.cpu_count()} cores; an empty program is planned in {empty:.2f} s")
    print(f"{'':10}{'agents':>7}  {'step':11}{'seconds':>9}{'ms/agent':>10}{'requests':>10}{'x gitune':>10}{'+ s':>8}")
    for row in rows[1:]:
        ours = seconds.get(("gitune", row.agents, row.step))
        ratio = f"{row.seconds / ours:.2f}" if ours else ""
        beyond = row.seconds - empty
        each = 1000 * row.seconds / row.agents
        limited = row.entrant == "gitune" and row.step == "no-op plan" and row.agents <= MOST_AGENTS
        wanted = f"  wanted: at most +{MOST_SECONDS:g} s" if limited else ""
        print(
            f"{row.entrant:10}{row.agents:7}  {row.step:11}{row.seconds:9.2f}{each:10.1f}{row.requests:10}"
            f"{ratio:>10}{beyond:8.2f}{wanted}"
        )
    for words in notes:
        print(words)


if __name__ == "__main__":
    sys.exit(main())
