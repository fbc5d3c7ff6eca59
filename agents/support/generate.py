"""Write data/train.jsonl and benchmark/cases.jsonl from sentences.yaml. Same input, same bytes.

Each training sentence with slots is filled twice, one without is taken once more with a greeting, so 15 sentences make
30 examples of each intent. Cases are taken as they stand.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
GREETINGS = ("Hi, ", "Hello! ", "hey ", "Good morning, ")


def main() -> None:
    """Write both files."""
    source = yaml.safe_load((HERE / "sentences.yaml").read_text(encoding="utf-8"))
    examples, cases = [], []
    for intent, sentences in source["intents"].items():
        for sentence in sentences["train"]:
            for text in variants(sentence, source["slots"]):
                turn = {"role": "assistant", "content": intent}
                examples.append({"messages": [*asked(source["system"], text), turn]})
        for number, text in enumerate(sentences["cases"], start=1):
            name = f"{intent}-{number:02d}"
            cases.append({"id": name, "messages": asked(source["system"], text), "target": intent})
    write(HERE / "data" / "train.jsonl", examples)
    write(HERE / "benchmark" / "cases.jsonl", cases)


def variants(sentence: str, slots: dict[str, list[str]]) -> tuple[str, str]:
    """Two examples of one sentence; which words fill it depends on its hash only."""
    seed = int(hashlib.sha256(sentence.encode()).hexdigest()[:8], 16)
    if "{" not in sentence:
        return sentence, GREETINGS[seed % len(GREETINGS)] + sentence[0].lower() + sentence[1:]
    first, second = (
        {name: words[(seed // (i + 1) + turn * 3) % len(words)] for i, (name, words) in enumerate(slots.items())}
        for turn in (0, 1)
    )
    return sentence.format(**first), sentence.format(**second)


def asked(system: str, text: str) -> list[dict[str, str]]:
    """The conversation up to the answer."""
    return [{"role": "system", "content": system}, {"role": "user", "content": text}]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """One JSON object on each line."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
