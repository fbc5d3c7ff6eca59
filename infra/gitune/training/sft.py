# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.15", "transformers>=5.23", "peft>=0.21", "trl>=1.16", "accelerate>=1.15"]
# ///
"""Train one LoRA adapter: the one script that the local provider, Ray and Hugging Face Jobs all run.

    python sft.py --config config.json --train train.jsonl [--validation validation.jsonl] --output DIR

It imports nothing of gitune, because it is sent to other machines. Killed at any moment and started again with the same
arguments, it goes on from its newest whole checkpoint; once DIR/model is there, it does nothing.

    config.json      {"base_model": folder or Hugging Face ID, "method": "lora", "hyperparameters": {...}, "key": "..."}
    DIR/status.json  the state now, replaced in one step          DIR/checkpoints/  to go on from
    DIR/events.jsonl everything that happened, appended           DIR/model/        the adapter, whole or missing

Exit codes: 0 trained, 1 the input is wrong ("rejected"), 3 anything else ("crashed"), 143 SIGTERM ("cancelled").
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import hashlib
import json
import math
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """What agent.yaml may set. The defaults are tuned for the embedded base model (135 million parameters)."""

    epochs: float = 3
    """Passes over the training examples."""
    learning_rate: float = 4e-3
    """Peak of a linear schedule. Right for 135 million parameters; for billions, take 2e-4."""
    batch_size: int = 8
    """Examples in one forward pass."""
    gradient_accumulation: int = 1
    """Batches in one optimizer step."""
    warmup_ratio: float = 0.05
    """Share of the steps, 0 to 1, in which the learning rate rises."""
    max_length: int = 1024
    """Tokens. A longer example is refused, never cut. Batches are padded to their own longest, so room costs nothing."""
    lora_rank: int = 16
    """Width of the adapter."""
    lora_alpha: int = 32
    """The adapter's output is scaled by alpha / rank."""
    lora_dropout: float = 0.0
    """Share of the adapter's inputs dropped, 0 to 1. Three epochs of a small adapter overfit little."""
    lora_layers: int | None = 8
    """Tune the last N layers only: no gradient is computed below them, 8 of 30 halve the time. null: all layers."""
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    """Projections that get an adapter."""
    gradient_checkpointing: bool = False
    """Trades time (half as fast again) for memory. For large models on one GPU."""
    seed: int = 7
    """Of the adapter's first weights and of the order of examples."""
    save_every: float = 0.1
    """Share of all steps (below 1) or number of steps between checkpoints: what a killed job loses at most."""
    batching: Literal["length", "packed", "plain"] = "length"
    """length: batches of like length, the fastest; plain: random batches; packed: rows filled to max_length, for GPUs."""


class Rejected(Exception):
    """The input is wrong: trying again, here or elsewhere, ends the same way."""


def default_hyperparameters() -> dict[str, Any]:
    """As JSON has them."""
    return json.loads(json.dumps(asdict(Hyperparameters())))  # type: ignore[no-any-return]


def check_hyperparameters(values: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong, by name; empty when nothing is."""
    wrong = {}
    for name, value in values.items():
        if name not in _RULES:
            close = difflib.get_close_matches(name, _RULES, n=1)
            known = f"did you mean {close[0]}?" if close else f"known: {', '.join(_RULES)}"
            wrong[name] = f"unknown hyperparameter '{name}'; {known}"
        elif not _RULES[name][0](value):
            wrong[name] = f"{name} must be {_RULES[name][1]}, not {json.dumps(value, default=str)}"
    return wrong


def _number(low: float, high: float, *, open_low: bool = False) -> Callable[[Any], bool]:
    def holds(value: Any) -> bool:
        real = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return real and (low < value if open_low else low <= value) and value <= high

    return holds


def _whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _names(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, str) and item for item in value)


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "epochs": (_number(0, 1000, open_low=True), "a number above 0"),
    "learning_rate": (_number(0, 1, open_low=True), "a number above 0, at most 1"),
    "batch_size": (_whole(1, 4096), "a whole number from 1"),
    "gradient_accumulation": (_whole(1, 4096), "a whole number from 1"),
    "warmup_ratio": (_number(0, 0.99), "a number from 0 to 0.99"),
    "max_length": (_whole(16, 1_000_000), "a whole number of tokens from 16"),
    "lora_rank": (_whole(1, 1024), "a whole number from 1 to 1024"),
    "lora_alpha": (_whole(1, 8192), "a whole number from 1"),
    "lora_dropout": (_number(0, 0.9), "a number from 0 to 0.9"),
    "lora_layers": (lambda value: value is None or _whole(1, 1000)(value), "null or a whole number from 1"),
    "target_modules": (_names, "a list of names"),
    "gradient_checkpointing": (lambda value: isinstance(value, bool), "true or false"),
    "seed": (_whole(0, 2**32 - 1), "a whole number from 0"),
    "save_every": (_number(0, 1e9, open_low=True), "a share of the steps below 1, or a number of steps"),
    "batching": (lambda value: value in ("length", "packed", "plain"), "length, packed or plain"),
}


@dataclass(frozen=True, slots=True)
class Encoded:
    """One example as the model reads it; labels of -100 are not learned."""

    input_ids: list[int]
    labels: list[int]


# For a base model without a chat template. Its end token is the tokenizer's own, so generation stops there.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ':\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:\n' }}{% endif %}"
)


def read_conversations(path: Path) -> list[list[dict[str, str]]]:
    """`messages` of every line; other keys are not looked at. Raises Rejected with file and line."""
    conversations = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            messages = json.loads(line)["messages"]
            conversation = [{"role": str(m["role"]), "content": str(m["content"])} for m in messages]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise Rejected(f'{path.name}:{number}: not {{"messages": [...]}} ({error})') from error
        if not conversation or conversation[-1]["role"] != "assistant":
            raise Rejected(f"{path.name}:{number}: the last message must be the assistant's")
        conversations.append(conversation)
    return conversations


def encode(tokenizer: Any, conversations: Sequence[Sequence[dict[str, str]]]) -> list[Encoded]:
    """Tokens, with labels on every assistant message and the token that ends it."""
    if not conversations:
        return []
    texts, spans = zip(*[_spans(tokenizer, conversation) for conversation in conversations], strict=True)
    tokens = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
    return [
        Encoded(ids, [_label(token, *place, learned) for token, place in zip(ids, places, strict=True)])
        for ids, places, learned in zip(tokens["input_ids"], tokens["offset_mapping"], spans, strict=True)
    ]


def _spans(tokenizer: Any, messages: Sequence[dict[str, str]]) -> tuple[str, list[tuple[int, int]]]:
    """The conversation's text, and where in it the assistant speaks (characters).

    A template that rewrites earlier turns (Qwen3 drops their thoughts) leaves only the turns that it does not rewrite,
    the last one at least.
    """

    def render(count: int, prompt: bool) -> str:
        return str(tokenizer.apply_chat_template(messages[:count], tokenize=False, add_generation_prompt=prompt))

    text = render(len(messages), prompt=False)
    spans = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        after = render(index + 1, prompt=False)
        starts = [before for prompt in (True, False) if after.startswith(before := render(index, prompt))]
        if starts and text.startswith(after):
            spans.append((len(starts[0]), len(after.rstrip())))  # the line feed after the end token is the template's
    if not spans or spans[-1][1] != len(text.rstrip()):
        raise Rejected("the base model's chat template does not show where the assistant's answer starts")
    return text, spans


def _label(token: int, start: int, end: int, learned: Sequence[tuple[int, int]]) -> int:
    return token if start < end and any(low <= start < high for low, high in learned) else -100


def _check_lengths(examples: Sequence[Encoded], max_length: int, name: str) -> None:
    longest = max((len(example.input_ids) for example in examples), default=0)
    if longest > max_length:
        count = sum(len(example.input_ids) > max_length for example in examples)
        raise Rejected(f"{name}: {count} examples are longer than max_length {max_length} tokens; the longest has {longest}")


class Report:
    """status.json and events.jsonl of one output folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written = 0
        now = _now()
        self.status: dict[str, Any] = {
            "status": "running", "stage": "loading", "step": 0, "total_steps": None, "progress": 0.0, "loss": None,
            "validation_loss": None, "learning_rate": None, "tokens_seen": 0, "tokens_per_second": None,
            "eta_seconds": None, "started_at": now, "updated_at": now, "finished_at": None, "error": None,
            "resumed_from": None, "pid": os.getpid(), "versions": _versions(),
        }  # fmt: skip

    def update(self, **changes: Any) -> None:
        """Replace status.json: a reader sees the old state or the new, never a part."""
        self.status.update(changes, updated_at=_now())
        self._written += 1  # a SIGTERM in the middle of a write makes a second one: each has a file of its own
        temporary = self._folder / f".status.{os.getpid()}.{self._written}"
        temporary.write_text(json.dumps(self.status, indent=2) + "\n", encoding="utf-8")
        temporary.replace(self._folder / "status.json")

    def event(self, name: str, **facts: Any) -> None:
        """Append one line to events.jsonl."""
        path = self._folder / "events.jsonl"
        with path.open("a+b") as file:
            torn = file.seek(0, os.SEEK_END) > 0 and _last_byte(file) != b"\n"  # a kill -9 in the middle of a line
            line = json.dumps({"event": name, "at": _now(), **facts})
            file.write((b"\n" if torn else b"") + line.encode() + b"\n")

    def finish(self, status: str, *, error: Mapping[str, str] | None = None, event: str, **facts: Any) -> None:
        """The end, one way or another."""
        self.update(status=status, error=error, finished_at=_now(), eta_seconds=None)
        self.event(event, **(error or {}), **facts)


def _last_byte(file: Any) -> bytes:
    file.seek(-1, os.SEEK_END)
    return bytes(file.read(1))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _versions() -> dict[str, str]:
    versions = {"python": sys.version.split()[0]}
    for name in ("torch", "transformers", "trl", "peft"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is whole. trainer_state.json is written last, but deleted in any order."""
    needed = ("adapter_model.safetensors", "adapter_config.json", "optimizer.pt", "scheduler.pt", "rng_state.pth")
    whole: dict[int, Path] = {}
    for checkpoint in folder.glob("checkpoint-*"):
        try:
            step = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if all((checkpoint / name).is_file() and (checkpoint / name).stat().st_size for name in needed):
            whole[step] = checkpoint
    return whole[max(whole)] if whole else None


def _identity(config: Mapping[str, Any], files: Sequence[Path]) -> str:
    """SHA-256 of what decides the weights: checkpoints of another training are not gone on from."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _prepare_checkpoints(folder: Path, identity: str) -> Path | None:
    """The checkpoint to go on from, if there is one of this very training."""
    folder.mkdir(exist_ok=True)
    mark = folder / "identity"
    if not mark.is_file() or mark.read_text(encoding="utf-8") != identity:
        shutil.rmtree(folder)
        folder.mkdir()
        mark.write_text(identity, encoding="utf-8")
    return newest_checkpoint(folder)
