"""The training script, for real: SmolLM2 learns 24 answers in a few steps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="the extra 'local' is not installed")

from gitune.errors import UserError
from gitune.training import sft
from gitune.training.base_model import DEFAULT_BASE_MODEL, resolve_base_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # torch, transformers and TRL deprecate each other's calls
]

SMALL = {"epochs": 2, "batch_size": 4, "lora_layers": 2, "lora_rank": 4, "save_every": 2}
WORDS = ("red", "green", "blue", "black", "white", "brown")


@pytest.fixture(scope="session")
def base_model() -> str:
    try:
        return resolve_base_model(DEFAULT_BASE_MODEL)
    except UserError as error:
        pytest.skip(error.message)


def write_inputs(folder: Path, base_model: str, examples: int = 24, **hyperparameters: Any) -> list[str]:
    """The script's arguments."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(examples):
        question = f"What is the colour of {'very ' * (number % 5)}thing {number}?"
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": WORDS[number % len(WORDS)]}]
        lines.append(json.dumps({"messages": turns, "id": number}))
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = {"base_model": base_model, "method": "lora", "hyperparameters": {**SMALL, **hyperparameters}, "key": "abc"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    names = ["--config", str(folder / "config.json"), "--train", str(folder / "train.jsonl")]
    return [*names, "--output", str(folder / "out")]


def status(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "out" / "status.json").read_text(encoding="utf-8"))


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out" / "events.jsonl").read_text(encoding="utf-8").splitlines()]


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "out" / "model" / "adapter_model.safetensors")


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    """The script alone, as Ray and HF Jobs run it: nothing of gitune on its path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.Popen(
        [sys.executable, str(sft.__file__), *arguments], env=environment, cwd=Path(arguments[1]).parent
    )


def wait_for(done: Any, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not done():
        assert process.poll() is None, "the training ended before"
        assert time.monotonic() < deadline, "the training takes too long"
        time.sleep(0.01)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, base_model: str) -> Path:
    """A folder whose training ran in one go."""
    folder = tmp_path_factory.mktemp("trained")
    assert sft.main(write_inputs(folder, base_model)) == 0
    return folder


def test_finished_training_has_all_it_promises(trained: Path) -> None:
    now = status(trained)
    assert now["status"] == "succeeded"
    assert now["progress"] == 1.0
    assert now["step"] == now["total_steps"] == 12
    assert now["tokens_seen"] > 0
    assert now["loss"] > 0
    facts = json.loads((trained / "out" / "model" / "training.json").read_text(encoding="utf-8"))
    assert facts["key"] == "abc"
    assert facts["steps"] == 12
    assert facts["hyperparameters"]["seed"] == sft.Hyperparameters().seed
    names = [event["event"] for event in events(trained)]
    assert names[0] == "started"
    assert names[-1] == "finished"
    assert names.count("checkpoint") == 6
    assert {"model", "status.json", "events.jsonl"} == {path.name for path in (trained / "out").iterdir()}


def test_finished_folder_returns_at_once(trained: Path, base_model: str) -> None:
    before = events(trained)
    began = time.monotonic()
    assert sft.main([*write_inputs(trained, base_model)]) == 0
    assert time.monotonic() - began < 1
    assert events(trained) == before

    (trained / "out" / "status.json").write_text("{", encoding="utf-8")  # killed between the rename and the status
    assert sft.main(write_inputs(trained, base_model)) == 0
    assert status(trained)["status"] == "succeeded"


def test_killed_training_goes_on_to_the_same_weights(trained: Path, tmp_path: Path, base_model: str) -> None:
    import torch

    arguments = write_inputs(tmp_path, base_model)
    checkpoints = tmp_path / "out" / "checkpoints"
    process = start(arguments)
    try:
        wait_for(lambda: sft.newest_checkpoint(checkpoints) is not None, process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    half = checkpoints / "checkpoint-99"  # newer, and cut off while it was written
    half.mkdir()
    (half / "adapter_model.safetensors").write_bytes(b"half")
    (half / "trainer_state.json").write_text('{"global_step": 9', encoding="utf-8")
    with (tmp_path / "out" / "events.jsonl").open("a") as file:
        file.write('{"event": "prog')

    assert sft.main(arguments) == 0
    assert status(tmp_path)["resumed_from"] in {2, 4, 6, 8, 10}
    assert '"resumed"' in (tmp_path / "out" / "events.jsonl").read_text(encoding="utf-8").replace(
        '{"event": "prog\n', ""
    )
    one_go, in_two = weights(trained), weights(tmp_path)
    assert one_go.keys() == in_two.keys()
    for name, tensor in one_go.items():
        assert torch.allclose(tensor, in_two[name], atol=1e-5), name


def test_sigterm_is_told_as_cancelled(tmp_path: Path, base_model: str) -> None:
    process = start(write_inputs(tmp_path, base_model, epochs=500))
    wait_for((tmp_path / "out" / "checkpoints" / "checkpoint-2").exists, process)
    process.terminate()
    assert process.wait(timeout=10) == 143
    assert status(tmp_path)["status"] == "cancelled"
    assert events(tmp_path)[-1]["event"] == "cancelled"


@pytest.mark.parametrize(
    ("hyperparameters", "words"),
    [
        ({"learning_rat": 1e-3}, "unknown hyperparameter 'learning_rat'; did you mean learning_rate?"),
        ({"epochs": 0}, "epochs must be a number above 0, not 0"),
        ({"batch_size": True}, "batch_size must be a whole number from 1, not true"),
        ({"max_length": 16}, "train.jsonl: 24 examples are longer than max_length 16 tokens"),
    ],
)
def test_wrong_hyperparameter_is_rejected(
    tmp_path: Path, base_model: str, hyperparameters: dict[str, Any], words: str
) -> None:
    assert sft.main(write_inputs(tmp_path, base_model, **hyperparameters)) == 1
    now = status(tmp_path)
    assert now["status"] == "failed"
    assert now["error"]["kind"] == "rejected"
    assert words in now["error"]["message"]


def test_unknown_base_model_and_bad_data_are_rejected(tmp_path: Path, base_model: str) -> None:
    (tmp_path / "empty").mkdir()
    assert sft.main(write_inputs(tmp_path / "model", str(tmp_path / "empty"))) == 1
    assert status(tmp_path / "model")["error"]["kind"] == "rejected"

    arguments = write_inputs(tmp_path / "data", base_model)
    (tmp_path / "data" / "train.jsonl").write_text('{"messages": 3}\n', encoding="utf-8")
    assert sft.main(arguments) == 1
    assert status(tmp_path / "data")["error"]["message"].startswith("train.jsonl:1: ")


def test_checkpoint_that_lacks_a_file_is_passed_over(tmp_path: Path) -> None:
    for step in (5, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        for name in (
            "adapter_model.safetensors",
            "adapter_config.json",
            "optimizer.pt",
            "scheduler.pt",
            "rng_state.pth",
        ):
            (folder / name).write_bytes(b"x")
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}), encoding="utf-8")
    newest = sft.newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.name == "checkpoint-10"
    (tmp_path / "checkpoint-10" / "optimizer.pt").unlink()
    newest = sft.newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.name == "checkpoint-5"


def test_every_answer_is_learned_and_nothing_else(base_model: str) -> None:
    tokenizer, _ = sft._load(base_model)
    turns = [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Hello."),
        ("user", "Bye"),
        ("assistant", "See you"),
    ]
    [example] = sft.encode(tokenizer, [[{"role": role, "content": content} for role, content in turns]])
    learned = tokenizer.decode([token for token in example.labels if token != -100])
    assert learned == "Hello.<|im_end|>See you<|im_end|>"
    assert tokenizer.decode(example.input_ids).startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user")


def test_lean_loss_equals_trls(tmp_path: Path, base_model: str) -> None:
    import torch
    from datasets import Dataset
    from trl import SFTTrainer

    arguments = write_inputs(tmp_path, base_model)
    tokenizer, model = sft._load(base_model)
    examples = sft.encode(tokenizer, sft.read_conversations(Path(arguments[3])))
    dataset = Dataset.from_list([asdict(example) for example in examples])
    trainer = sft.make_trainer(
        sft.Hyperparameters(**SMALL),  # type: ignore[arg-type]
        model=model,
        tokenizer=tokenizer,
        train_dataset=dataset,
        eval_dataset=None,
        folder=tmp_path / "checkpoints",
        callbacks=[],
    )
    trainer.model.train()
    batch = next(iter(trainer.get_train_dataloader()))
    for items in (None, torch.tensor(7)):
        ours = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=items)
        theirs = SFTTrainer.compute_loss(trainer, trainer.model, dict(batch), num_items_in_batch=items)
        assert ours.item() == pytest.approx(theirs.item(), abs=1e-3)


def test_order_of_examples_is_a_function_of_seed_and_epoch() -> None:
    lengths = [number % 7 for number in range(50)]
    sampler = sft.LengthSampler(lengths, batch_size=4, seed=1)
    first = list(sampler)
    assert sorted(first) == list(range(50))
    assert first == list(sampler)
    sampler.set_epoch(1)
    assert first != list(sampler)
    widths = [
        max(lengths[i] for i in b) - min(lengths[i] for i in b) for b in (first[s : s + 4] for s in range(0, 48, 4))
    ]
    assert max(widths) <= 1
