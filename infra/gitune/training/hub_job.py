# /// script
# requires-python = ">=3.11"
# dependencies = ["huggingface-hub>=2.0"]
# ///
"""Run sft.py as a Hugging Face Job: train, push the adapter to a model repository, say there how it went.

    uv run hub_job.py --repository OWNER/NAME --script sft.py --train train.jsonl [--validation v.jsonl] [--public]

It imports nothing of gitune, because it is sent to other machines. HF_TOKEN and HF_ENDPOINT are in the environment, and
GITUNE_CONFIG holds the JSON that sft.py takes as --config. The adapter and outcome.json arrive in one commit, so a
repository that says "succeeded" is whole. Started again after that, it does nothing. Killed before that, it has lost
all its work: nothing of an unfinished training is pushed.

    outcome.json     {"status": "succeeded" | "rejected" | "crashed", "message": "", "key": "...", "job_id": "..."}

Exit codes: those of sft.py; 3 too where the Hub does not take the adapter.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

OUTCOME = "outcome.json"
PUSH_AGAIN_SECONDS = (1, 30, 300)
"""Waits between attempts to push: the training is paid for by then."""


def main(argv: Sequence[str] | None = None) -> int:
    """Train unless that is done, push, report. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Train one LoRA adapter and push it.")
    parser.add_argument("--repository", required=True)
    parser.add_argument("--public", action="store_true")
    for name in ("script", "train", "validation"):
        parser.add_argument(f"--{name}", type=Path, required=name != "validation")
    arguments = parser.parse_args(argv)
    from huggingface_hub import HfApi

    config = json.loads(os.environ["GITUNE_CONFIG"])
    api = HfApi()
    api.create_repo(arguments.repository, private=not arguments.public, exist_ok=True)  # may it write? Before it trains
    if _is_trained(arguments.repository, config["key"]):
        print(f"{arguments.repository} has the adapter of this training already")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        code = _train(arguments, config, output)
        outcome = {**_ending(output, code), "key": config["key"], "job_id": os.environ.get("JOB_ID")}
        pushed = output / "model" if code == 0 else output / "failed"
        pushed.mkdir(exist_ok=True)
        (pushed / OUTCOME).write_text(json.dumps(outcome, indent=2) + "\n", encoding="utf-8")
        _push(api, arguments.repository, pushed, f"gitune: {outcome['status']}")
    return code


def _is_trained(repository: str, key: str) -> bool:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        outcome = json.loads(Path(hf_hub_download(repository, OUTCOME)).read_text(encoding="utf-8"))
    except EntryNotFoundError:
        return False
    return bool(outcome["status"] == "succeeded" and outcome["key"] == key)


def _train(arguments: argparse.Namespace, config: dict[str, Any], output: Path) -> int:
    (output / "config.json").write_text(json.dumps(config), encoding="utf-8")
    command = ["uv", "run", str(arguments.script), "--config", str(output / "config.json")]
    command += ["--train", str(arguments.train), "--output", str(output)]
    if arguments.validation:
        command += ["--validation", str(arguments.validation)]
    return subprocess.run(command, check=False).returncode


def _ending(output: Path, code: int) -> dict[str, str]:
    """Status and message; a process that was killed leaves no error in status.json."""
    if code == 0:
        return {"status": "succeeded", "message": ""}
    try:
        error = json.loads((output / "status.json").read_text(encoding="utf-8"))["error"]
        return {"status": error["kind"], "message": error["message"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {"status": "crashed", "message": f"the training ended with exit code {code}"}


def _push(api: Any, repository: str, folder: Path, message: str) -> None:
    for wait in PUSH_AGAIN_SECONDS:
        try:
            api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message)
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, giving up loses the adapter
            print(f"push failed: {error}; again in {wait} s", file=sys.stderr, flush=True)
            time.sleep(wait)
    api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message)


if __name__ == "__main__":
    sys.exit(main())
