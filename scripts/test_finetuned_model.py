#!/usr/bin/env python3
"""The status report's quick test of one model, as it was written there; `gitune benchmark` is what does it.

    python3 scripts/test_finetuned_model.py --model ft:open-mistral-7b:5010731d:20251031:ecc3829c --agent qa_agent \
        --test_cases 10
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask a fine-tuned model and its base model an agent's cases.")
    parser.add_argument("--model", required=True, help="its ID, such as ft:open-mistral-7b:5010731d:20251031:ecc3829c")
    parser.add_argument("--agent", required=True, help="whose cases: qa, or qa_agent as the report says")
    parser.add_argument("--test_cases", type=int, help="only so many of the cases; left out: all")
    parser.add_argument("--provider", help="whose model it is; left out: told from the ID")
    parser.add_argument("--stack", default="training", help="whose provider settings are used (default: %(default)s)")
    arguments = parser.parse_args()

    command = ["benchmark", agent_name(arguments.agent), "--stack", arguments.stack]
    command += ["--model", f"{arguments.provider or provider_of(arguments.model)}:{arguments.model}"]
    if arguments.test_cases is not None:
        command += ["--cases", str(arguments.test_cases)]
        if arguments.test_cases < 100:
            print(f"note: {arguments.test_cases} cases prove nothing; leave --test_cases out", file=sys.stderr)
    gitune = str(ROOT / "scripts" / "gitune")
    os.environ.setdefault("GITUNE_SETUP", "base")  # a hosted model needs no PyTorch
    os.execv(gitune, [gitune, *command])  # same terminal, same exit code


def agent_name(text: str) -> str:
    """The folder's name: the report says qa_agent for the agent that is agents/qa here."""
    short = text.removesuffix("_agent")
    return short if (ROOT / "agents" / short / "agent.yaml").is_file() else text


def provider_of(model: str) -> str:
    """OpenAI's fine-tuned models are named ft:gpt-..., Mistral's ft:<its model>:..., Bedrock's by an ARN."""
    if model.startswith("arn:aws"):
        return "bedrock"
    if model.startswith("ft:"):
        return "openai" if model.startswith(("ft:gpt-", "ft:babbage-", "ft:davinci-")) else "mistral"
    return "local"


if __name__ == "__main__":
    main()
