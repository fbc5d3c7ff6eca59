"""Write data/train.jsonl and benchmark/cases.jsonl from frames.yaml. Same input, same bytes.

Each training frame becomes one example; which words fill its slots depends on its hash only. Cases are taken as they
stand. Nothing is written if a message stands twice, or if a case is too close to an example.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from itertools import combinations, product
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
MAX_SIMILARITY = 0.75


def main() -> None:
    """Write both files, or say why not."""
    source = yaml.safe_load((HERE / "frames.yaml").read_text(encoding="utf-8"))
    examples: list[dict[str, Any]] = []
    cases: list[dict[str, Any]] = []
    for intent, frames in source["intents"].items():
        for frame in frames["train"]:
            turn = {"role": "assistant", "content": intent}
            examples.append({"messages": [*asked(source["system"], fill(frame, source["slots"])), turn]})
        for number, text in enumerate(frames["cases"], start=1):
            name = f"{intent}-{number:03d}"
            cases.append({"id": name, "messages": asked(source["system"], text), "target": intent})
    problems = too_close(messages_of(examples), messages_of(cases))
    if problems:
        sys.exit("\n".join(problems))
    write(HERE / "data" / "train.jsonl", examples)
    write(HERE / "benchmark" / "cases.jsonl", cases)


def fill(frame: str, slots: dict[str, list[str]]) -> str:
    """The frame with its slots filled."""
    chosen = {}
    for name, words in slots.items():
        digest = hashlib.sha256(f"{name}:{frame}".encode()).hexdigest()
        chosen[name] = words[int(digest[:8], 16) % len(words)]
    return frame.format(**chosen)


def asked(system: str, text: str) -> list[dict[str, str]]:
    """The conversation up to the answer."""
    return [{"role": "system", "content": system}, {"role": "user", "content": text}]


def messages_of(rows: list[dict[str, Any]]) -> list[str]:
    """What the customer says in each row."""
    return [row["messages"][1]["content"] for row in rows]


def too_close(examples: list[str], cases: list[str]) -> list[str]:
    """Pairs that are the same message, and cases that a model could know by heart from an example."""
    pairs = [(a, b, 1.0) for rows in (examples, cases) for a, b in combinations(rows, 2)]
    pairs += [(a, b, MAX_SIMILARITY) for a, b in product(cases, examples)]
    words = {text: frozenset(re.findall(r"[\w']+", text.lower())) for text in (*examples, *cases)}
    return [f"too close: {a!r} and {b!r}" for a, b, limit in pairs if similarity(words[a], words[b]) >= limit]


def similarity(a: frozenset[str], b: frozenset[str]) -> float:
    """Jaccard: the share of words that stand in both."""
    return len(a & b) / len(a | b)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """One JSON object on each line."""
    path.parent.mkdir(exist_ok=True)
    lines = (json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
