"""What is sent to a provider is a function of the dataset alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from gitune.dataset.upload import upload_files
from gitune.errors import Rejected

SAID = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "é?"},
    {"role": "assistant", "content": "è"},
)


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
