"""Helpers for tests that run the real command line, the real engine and real training."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.conftest import Repository, Result, agent_yaml, case, example
from tests.servers.base import HttpServer, Phase

GITUNE = Path(sys.executable).parent / "gitune"


def start(repository: Repository, *arguments: str) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    environment = {"HF_HUB_OFFLINE": "1", **os.environ, "NO_COLOR": "1"}
    return subprocess.Popen(
        [GITUNE, *arguments],
        cwd=repository.root,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def call(repository: Repository, *arguments: str, timeout: float = 300) -> Result:
    """Run a command to its end. Output of a killed predecessor's children cannot keep us waiting."""
    process = start(repository, *arguments)
    out, err = process.communicate(timeout=timeout)
    return Result(process.returncode, out, err)


def two_at_once(first: Repository, server: HttpServer, *arguments: str) -> list[Result]:
    """The command in a clone of the repository, while the engine of the same command here submits.

    The second must say that it waits. Returns how both ended.
    """
    clone = Repository(first.root.parent / "clone")
    shutil.copytree(first.root, clone.root)
    second_waits = threading.Event()

    def hold(number: int, phase: Phase) -> bool:
        if server.requests[number - 1].method == "POST":  # the engine is in the middle of its pass
            second_waits.wait(timeout=60)
        return False

    server.watch = hold
    processes = [start(first, *arguments)]
    wait_until(lambda: any(request.method == "POST" for request in server.requests), "the first upload")
    processes.append(start(clone, *arguments))
    assert processes[1].stderr is not None
    told = ""
    while "waiting for another engine (" not in told:
        line = processes[1].stderr.readline()
        assert line, told
        told += line
    second_waits.set()
    ends = [process.communicate(timeout=120) for process in processes]
    return [Result(process.returncode, *end) for process, end in zip(processes, ends, strict=True)]


def outcome(result: Result) -> dict[str, Any]:
    """The one agent of `up --json`."""
    (agent,) = json.loads(result.out)
    return agent  # type: ignore[no-any-return]


def jobs(repository: Repository) -> list[Path]:
    return sorted(path.parent for path in (repository.root / ".gitune" / "jobs").glob("*/config.json"))


def events(job: Path, name: str) -> list[dict[str, Any]]:
    path = job / "events.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return [event for event in map(json.loads, lines) if event["event"] == name]


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    """The condition's first true value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"never happened: {what}")


def engine_of(repository: Repository) -> psutil.Process | None:
    """The engine that works on this repository."""
    return _process(repository, lambda p: p.name() == "pulumi" and "up" in p.cmdline())


def training_of(repository: Repository) -> psutil.Process | None:
    """The living training process of this repository."""
    return _process(repository, lambda p: "gitune.training.run" in p.cmdline())


def _process(repository: Repository, wanted: Callable[[psutil.Process], bool]) -> psutil.Process | None:
    for process in psutil.process_iter():
        try:
            if wanted(process) and Path(process.cwd()).is_relative_to(repository.root):
                return process
        except psutil.Error:
            continue
    return None


def tiny_base_model(folder: Path) -> Path:
    """A Llama of two thin layers with the default's tokenizer: it learns nothing, but trains in seconds."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from gitune.training.base_model import DEFAULT_BASE_MODEL, resolve_base_model

    tokenizer = AutoTokenizer.from_pretrained(resolve_base_model(DEFAULT_BASE_MODEL))
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def add_tiny_agent(repository: Repository, base_model: Path, **hyperparameters: Any) -> None:
    """An agent that trains in seconds and passes any gate."""
    values = {"lora_layers": None, "batch_size": 4, "epochs": 3, **hyperparameters}
    spec = agent_yaml(
        training=[{"provider": "local", "base_model": str(base_model), "hyperparameters": values}],
        benchmark={"cases": "benchmark/cases.jsonl", "max_new_tokens": 2, "latency_cases": 1},
        gate={"min_improvement": -1.0, "max_regression": 1.0, "max_latency_seconds": 60},
    )
    repository.add_agent("tiny", spec)


def add_hosted_agents(
    repository: Repository, provider: str, count: int = 5, declare: Sequence[str] = ("models",)
) -> None:
    """Agents of the stack `training`, with one candidate, few examples and one case each: `up` takes seconds.

    The provider's limits are declared, or it would be sent one job at a time.
    """
    limits = {provider: {"concurrency": 20, "total_jobs": "unlimited"}}
    config = {"gitune:declare": list(declare), "gitune:locks": "agents", "gitune:providers": limits}
    repository.write("Pulumi.training.yaml", yaml.safe_dump({"config": config}))
    for agent in range(count):
        spec = agent_yaml(
            training=[{"provider": provider}],
            gate={"min_improvement": -1.0, "max_regression": 1.0, "max_latency_seconds": 60},
        )
        examples = [example(f"message {number} to agent {agent}", f"intent_{number % 3}") for number in range(12)]
        repository.add_agent(f"agent-{agent}", spec, examples, [case("c0", "a question", "intent_0")])
