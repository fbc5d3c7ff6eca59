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
    """Tokens. A longer example is refused, never cut. Batches are padded to their own longest: room costs nothing."""
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
    """length: batches of like length, the fastest; plain: random ones; packed: rows filled to max_length, for GPUs."""


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
        Encoded(ids, [_label(token, start, end, learned) for token, (start, end) in zip(ids, places, strict=True)])
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
        raise Rejected(
            f"{name}: {count} examples are longer than max_length {max_length} tokens; the longest has {longest}"
        )


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
    """SHA-256 of what decides the weights: checkpoints of another training are not gone on from.

    With a key the base model's folder does not count: the key covers the model, and a cache may move.
    """
    decides = {name: value for name, value in config.items() if name != "base_model" or not config.get("key")}
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode())
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


@dataclass(frozen=True, slots=True)
class Job:
    """One training, inputs checked."""

    base_model: str
    key: str
    settings: Hyperparameters
    train: Path
    validation: Path | None
    output: Path


def train(job: Job, report: Report, checkpoint: Path | None) -> dict[str, Any]:
    """Train and write DIR/model. Returns the facts that training.json holds."""
    import torch
    import transformers
    from datasets import Dataset  # type: ignore[import-untyped,unused-ignore]

    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(_threads())
    started = time.monotonic()
    tokenizer, model = _load(job.base_model)
    encoded = _encode_file(tokenizer, job.train, job.settings)
    held_out = _encode_file(tokenizer, job.validation, job.settings) if job.validation else []
    if not encoded:
        raise Rejected(f"{job.train.name}: no example in this file")
    trainer = make_trainer(
        job.settings,
        model=model,
        tokenizer=tokenizer,
        train_dataset=Dataset.from_list([asdict(example) for example in encoded]),
        eval_dataset=Dataset.from_list([asdict(example) for example in held_out]) if held_out else None,
        folder=job.output / "checkpoints",
        callbacks=[_reporter(report)],
    )
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    report.update(stage="saving", progress=1.0, eta_seconds=0.0)
    state = trainer.state
    facts = {
        "base_model": job.base_model,
        "method": "lora",
        "hyperparameters": asdict(job.settings),
        "key": job.key,
        "examples": len(encoded),
        "steps": state.global_step,
        "loss": report.status["loss"],
        "validation_loss": report.status["validation_loss"],
        "tokens": int(state.num_input_tokens_seen),
        "seconds": round(time.monotonic() - started, 2),
        "device": str(trainer.args.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "versions": report.status["versions"],
    }
    _save(trainer.model, tokenizer, facts, job.output)
    return facts


def _load(base_model: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(base_model)
        model = AutoModelForCausalLM.from_pretrained(base_model, dtype=pick_dtype(torch))
    except (OSError, ValueError) as error:
        if _is_outage(error):
            raise
        raise Rejected(f"cannot load the base model {base_model}: {_first_line(error)}") from error
    if tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN_TEMPLATE
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, model


def pick_dtype(torch: Any) -> Any:
    """bf16 where the hardware multiplies it, else fp32. bf16 weights train twice as fast as fp32, on a CPU too."""
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if torch.backends.mps.is_available():
        return torch.float32
    fast = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


def _threads() -> int:
    """Physical cores that this process may use: two threads on one core only wait for each other."""
    import psutil

    named = os.environ.get("OMP_NUM_THREADS", "")
    if named.isdigit() and int(named) > 0:
        return int(named)  # Ray, for one, says how many it set aside
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))


def _is_outage(error: BaseException | None) -> bool:
    """Whether the Hub could not be reached: another try may go better, so the input is not to blame."""
    outages = {"ConnectError", "ConnectionError", "ConnectTimeout", "ReadTimeout", "LocalEntryNotFoundError"}
    while error is not None:
        if type(error).__name__ in outages:
            return True
        error = error.__cause__ or error.__context__
    return False


def _encode_file(tokenizer: Any, path: Path, settings: Hyperparameters) -> list[Encoded]:
    examples = encode(tokenizer, read_conversations(path))
    _check_lengths(examples, settings.max_length, path.name)
    return examples


def make_trainer(
    settings: Hyperparameters,
    *,
    model: Any,
    tokenizer: Any,
    train_dataset: Any,
    eval_dataset: Any,
    folder: Path,
    callbacks: Sequence[Any],
) -> Any:
    """TRL's trainer, set up for an adapter and made lean where a CPU pays for it."""
    import torch
    from peft import LoraConfig
    from transformers import Trainer
    from trl import SFTConfig, SFTTrainer
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    layers = model.config.get_text_config().num_hidden_layers
    last = None if settings.lora_layers is None else list(range(max(0, layers - settings.lora_layers), layers))
    packed = settings.batching == "packed"
    scaled = ("final_logit_softcapping", "logit_scale", "logits_scaling", "output_multiplier", "lm_head_multiplier")
    plain_head = all(getattr(model.config.get_text_config(), name, None) is None for name in scaled)

    class LeanTrainer(SFTTrainer):
        """TRL's, less what a CPU should not do."""

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            # Off the GPU, TRL scores every position with the LM head, the largest layer of a small model. Only the
            # answers' positions count: the loss is the same (tests/training) and the step twice as fast.
            if self.args.device.type == "cuda" or return_outputs or not plain_head:
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            labels = inputs["labels"][:, 1:]
            read = {name: value for name, value in inputs.items() if name != "labels"}
            base = model.get_base_model()
            hidden = base.base_model(**read, use_cache=False).last_hidden_state[:, :-1]
            learned = labels != -100
            logits = base.get_output_embeddings()(hidden[learned]).float()
            total = torch.nn.functional.cross_entropy(logits, labels[learned], reduction="sum")
            return total / (learned.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch)

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            if settings.batching != "length":
                return super()._get_train_sampler(train_dataset)
            lengths = [len(ids) for ids in (train_dataset or self.train_dataset)["input_ids"]]
            return LengthSampler(lengths, settings.batch_size, settings.seed)

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            Trainer._save_checkpoint(self, model, trial)  # TRL's writes a model card into each

        def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
            self.model.save_pretrained(output_dir, state_dict=state_dict, save_embedding_layers=False)

    arguments = SFTConfig(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=settings.warmup_ratio,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        gradient_checkpointing=settings.gradient_checkpointing,
        max_length=settings.max_length if packed else None,
        packing=packed,
        eval_packing=False,
        dataset_kwargs=None if packed else {"skip_prepare_dataset": True},
        bf16=False,  # no autocast: the weights are bf16 already, the adapter stays fp32
        fp16=False,
        seed=settings.seed,
        save_strategy="steps",
        save_steps=settings.save_every,
        save_total_limit=2,
        eval_strategy="epoch" if eval_dataset is not None else "no",
        logging_strategy="steps",
        logging_steps=0.01,
        include_num_input_tokens_seen="non_padding",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    pad = tokenizer.pad_token_id
    return LeanTrainer(
        model=model,
        args=arguments,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        processing_class=tokenizer,
        data_collator=None if packed else DataCollatorForLanguageModeling(pad_token_id=pad),
        callbacks=list(callbacks),
        peft_config=LoraConfig(
            r=settings.lora_rank,
            lora_alpha=settings.lora_alpha,
            lora_dropout=settings.lora_dropout,
            target_modules=list(settings.target_modules),
            layers_to_transform=last,
            task_type="CAUSAL_LM",
        ),
    )


class LengthSampler:
    """Batches of like length in random order: hardly any padding, and the same order for the same seed and epoch.

    transformers' own draws from the global generator and starts every epoch with the longest.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths, self._batch_size, self._seed, self._epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer, also when it goes on from a checkpoint."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        import random

        draw = random.Random(f"{self._seed} {self._epoch}")
        order = sorted(range(len(self._lengths)), key=lambda index: (self._lengths[index], draw.random()))
        batches = [order[start : start + self._batch_size] for start in range(0, len(order), self._batch_size)]
        last = [batches.pop()] if len(batches[-1]) < self._batch_size else []  # a short batch inside shifts all others
        draw.shuffle(batches)
        return iter([index for batch in [*batches, *last] for index in batch])


def _reporter(report: Report) -> Any:
    """The trainer's callback that keeps status.json and events.jsonl."""
    from transformers import TrainerCallback

    class Reporter(TrainerCallback):
        first_step = first_tokens = 0
        began = 0.0

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.first_step, self.first_tokens = state.global_step, int(state.num_input_tokens_seen)
            self.began = time.monotonic()
            report.update(stage="training", step=state.global_step, total_steps=state.max_steps)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            seconds = max(time.monotonic() - self.began, 1e-9)
            tokens = int(state.num_input_tokens_seen)
            pace = seconds / max(state.global_step - self.first_step, 1)
            facts: dict[str, Any] = {
                "step": state.global_step,
                "total_steps": state.max_steps,
                "progress": round(state.global_step / max(state.max_steps, 1), 4),
                "tokens_seen": tokens,
                "tokens_per_second": round((tokens - self.first_tokens) / seconds, 1),
                "eta_seconds": round(pace * (state.max_steps - state.global_step), 1),
            }
            names = {"loss": "loss", "eval_loss": "validation_loss", "learning_rate": "learning_rate"}
            facts.update({names[name]: float(f"{logs[name]:.6g}") for name in names if name in logs})
            report.update(**facts)
            report.event("progress", **facts)
            print(json.dumps(facts), flush=True)

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            report.event("checkpoint", step=state.global_step)

    return Reporter()


def _save(model: Any, tokenizer: Any, facts: Mapping[str, Any], output: Path) -> None:
    """Write DIR/model, whole or not at all: a crash of the machine included."""
    temporary = output / ".model"
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(temporary, save_embedding_layers=False)
    tokenizer.save_pretrained(temporary)
    (temporary / "README.md").unlink(missing_ok=True)
    (temporary / "training.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    for path in (*temporary.iterdir(), temporary):
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # from here on it is trained: too late to be cancelled
    temporary.rename(output / "model")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, train, report. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Train one LoRA adapter.")
    for name in ("config", "train", "validation", "output"):
        parser.add_argument(f"--{name}", type=Path, required=name != "validation")
    arguments = parser.parse_args(argv)
    output: Path = arguments.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    report = Report(output)
    if (output / "model" / "training.json").is_file():
        return _already_done(report, output)
    with _sigterm_cancels(report):
        try:
            _run(arguments, output, report)
        except Rejected as error:
            print(f"error: {error}", file=sys.stderr)
            report.finish("failed", error={"kind": "rejected", "message": str(error)}, event="failed")
            return 1
        except Exception as error:  # noqa: BLE001 - whatever it is, the status must tell
            traceback.print_exc()
            message = f"{type(error).__name__}: {_first_line(error)}"
            report.finish("failed", error={"kind": "crashed", "message": message}, event="failed")
            return 3
    return 0


def _run(arguments: argparse.Namespace, output: Path, report: Report) -> None:
    job, identity = _read_job(arguments, output)
    checkpoint = _prepare_checkpoints(output / "checkpoints", identity)
    step = (
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]
        if checkpoint
        else None
    )
    report.update(resumed_from=step)
    report.event("resumed" if checkpoint else "started", step=step or 0, versions=report.status["versions"])
    set_environment(job.base_model)
    facts = train(job, report, checkpoint)
    report.finish(
        "succeeded", event="finished", **{name: facts[name] for name in ("steps", "tokens", "seconds", "loss")}
    )
    shutil.rmtree(output / "checkpoints", ignore_errors=True)


def _read_job(arguments: argparse.Namespace, output: Path) -> tuple[Job, str]:
    try:
        config = json.loads(arguments.config.read_text(encoding="utf-8"))
        base_model, method, values = config["base_model"], config.get("method", "lora"), config["hyperparameters"]
        wrong = check_hyperparameters(values)
        identity = _identity(config, [file for file in (arguments.train, arguments.validation) if file])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Rejected(f"cannot read the input: {type(error).__name__}: {_first_line(error)}") from error
    if wrong:
        raise Rejected("; ".join(wrong.values()))
    if method != "lora":
        raise Rejected(f"unknown method '{method}'; known: lora")
    known = {field.name for field in fields(Hyperparameters)}
    settings = Hyperparameters(**{name: values[name] for name in known & values.keys()})
    job = Job(base_model, config.get("key", ""), settings, arguments.train, arguments.validation, output)
    return job, identity


def set_environment(base_model: str) -> None:
    """For the libraries that are imported later: they read it once."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "true"  # no process is forked, so nothing to warn about
    # How long a thread spins before it sleeps. With the default, two processes on the same cores wait for each other's
    # spinning: 54 tokens/s instead of 308 each. Sleeping at once costs a lone process a quarter of its speed.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    if Path(base_model).is_dir():
        os.environ["HF_HUB_OFFLINE"] = "1"  # a folder needs no network, and a look for one takes seconds


def _already_done(report: Report, output: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        if json.loads((output / "status.json").read_text(encoding="utf-8"))["status"] == "succeeded":
            return 0
    report.update(stage="saving", progress=1.0)
    report.finish("succeeded", event="finished")
    return 0


@contextlib.contextmanager
def _sigterm_cancels(report: Report) -> Iterator[None]:
    """Exit at once, wherever the signal finds us: no library swallows it, and at most a tenth of the work is lost."""

    def cancel(number: int, _frame: Any) -> None:
        report.finish("cancelled", event="cancelled")
        sys.stdout.flush()
        os._exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, cancel)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


if __name__ == "__main__":
    sys.exit(main())
