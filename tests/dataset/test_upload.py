"""What is sent to a provider is a function of the dataset alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gitune.dataset.upload import upload_files
from gitune.errors import Rejected
from tests.conftest import Repository, Result, agent_yaml, example

SAID = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "é?"},
    {"role": "assistant", "content": "è"},
)
TOOLS = [{"type": "function", "function": {"name": "find"}}]


def dataset(folder: Path, train: int, validation: int, **more: object) -> Path:
    folder.mkdir(exist_ok=True)
    line = json.dumps({"messages": SAID, **more})
    (folder / "train.jsonl").write_text(f"{line}\n" * train)
    (folder / "validation.jsonl").write_text(f"{line}\n" * validation)
    return folder


@pytest.mark.parametrize("form", ["mistral", "openai", "bedrock", "huggingface", "ray"])
def test_lines_end_with_a_line_feed_and_are_named_by_their_hash(form: str, tmp_path: Path) -> None:
    upload = upload_files(dataset(tmp_path / "d", 32, 1), form)
    rows = [json.loads(line) for line in upload.train.decode().splitlines()]
    assert len(rows) == 32
    assert upload.train.endswith(b"\n")
    assert rows[0]["messages"][-1] == {"role": "assistant", "content": "è"}
    assert ("system" in rows[0]) == (form == "bedrock")
    assert upload.train_sha256 == hashlib.sha256(upload.train).hexdigest()
    assert upload == upload_files(tmp_path / "d", form)


def test_nothing_held_back_is_no_file(tmp_path: Path) -> None:
    upload = upload_files(dataset(tmp_path / "d", 10, 0), "mistral")
    assert (upload.validation, upload.validation_sha256) == (None, None)


def test_what_a_provider_would_refuse_is_refused_before(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="at least 10"):
        upload_files(dataset(tmp_path / "few", 9, 0), "openai")
    with pytest.raises(Rejected, match="at least 32"):
        upload_files(dataset(tmp_path / "fewer", 31, 0), "bedrock")
    with pytest.raises(Rejected, match=r"train.jsonl:1: .*weight"):
        upload_files(dataset(tmp_path / "weighted", 10, 0, weight=2), "mistral")


def test_the_check_says_what_the_upload_would(repository: Repository, gitune: Callable[..., Result]) -> None:
    training = [{"provider": "openai"}]
    (repository.root / "Pulumi.training.yaml").write_text("config:\n  gitune:declare: [models]\n")
    rows = [example(f"message {i}", "a") for i in range(10)]
    repository.add_agent("qa", agent_yaml(training=training), rows)
    assert gitune("validate").code == 0  # the stack dev trains on local
    few = gitune("validate", "-s", "training")
    assert few.code == 1
    assert "agents/qa/agent.yaml:2: openai: 9 example(s) to train on, at least 10 are needed" in few.err
    assert "dataset.validation" in few.err

    repository.add_agent("qa", agent_yaml(training=training), [*rows, {**example("message 10", "a"), "tools": TOOLS}])
    assert gitune("validate", "-s", "training").code == 0  # OpenAI trains tools
    here = gitune("validate")
    assert here.code == 1
    assert "agents/qa/data/train.jsonl:11: local: tool calls cannot be trained here" in here.err


def test_the_same_thing_wrong_everywhere_is_not_said_a_thousand_times(
    repository: Repository, gitune: Callable[..., Result]
) -> None:
    rows = [{**example(f"message {i}", "a"), "tools": TOOLS} for i in range(100)]
    repository.add_agent("qa", examples=rows)
    said = gitune("validate").err
    assert said.count("tool calls cannot be trained here") == 20
    assert "more problems follow" in said


def test_weights_that_leave_nothing_to_train_on_are_found(
    repository: Repository, gitune: Callable[..., Result]
) -> None:
    dataset = {"sources": [{"path": "data/train.jsonl"}], "weights": "sample", "validation": 0.0}
    rows = [{**example("message", "a"), "weight": 1e-9}]
    repository.add_agent("qa", agent_yaml(dataset=dataset), rows)
    assert "agents/qa/agent.yaml:2: local: 0 example(s) to train on" in gitune("validate").err
