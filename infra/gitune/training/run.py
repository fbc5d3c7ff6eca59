"""The process of a local job: find the base model's folder, then run the training script in it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from gitune.errors import GituneError
from gitune.files import write_atomic
from gitune.training import sft
from gitune.training.base_model import resolve_base_model


def main(folder: Path) -> int:
    """Train the job in `folder`; see providers/local.py for what it holds. Returns the script's exit code."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    try:
        base_model = resolve_base_model(config["base_model"])
    except GituneError as error:
        failure = {"kind": "crashed", "message": error.message + (f" ({error.hint})" if error.hint else "")}
        write_atomic(folder / "status.json", json.dumps({"status": "failed", "error": failure}))
        return 1
    write_atomic(folder / "resolved.json", json.dumps({**config, "base_model": base_model}))
    arguments = ["--config", str(folder / "resolved.json"), "--train", str(folder / "train.jsonl")]
    validation = folder / "validation.jsonl"
    if validation.stat().st_size:
        arguments += ["--validation", str(validation)]
    return sft.main([*arguments, "--output", str(folder)])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
