"""Write an agent's data/train.jsonl and benchmark/cases.jsonl from its sentences.yaml. Same input, same bytes.

    python agents/_generate.py            every agent
    python agents/_generate.py qa legal   these

`labels` in sentences.yaml: each label has `train` sentences and `cases`. A sentence with {slots} is filled twice; one
without stands once, and a second time after an opener where the file has `openers`.

`fields` in sentences.yaml: the answer is one JSON object with those keys. Each of `frames` is filled `fills` times with
phrases of the fields; `questions` and `cases` are whole: their values, then the words.

Cases are always taken as they stand. What fills a slot depends on a hash of the sentence, never on a random generator.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

AGENTS = Path(__file__).resolve().parent
Rows = Iterator[tuple[str, str, str]]  # a name, what the user says, what is right


def main(names: list[str]) -> None:
    """Write both files of each agent."""
    for folder in [AGENTS / name for name in names] or sorted(p.parent for p in AGENTS.glob("*/sentences.yaml")):
        source = yaml.safe_load((folder / "sentences.yaml").read_text(encoding="utf-8"))
        train, cases = labelled(source) if "labels" in source else queries(source)
        system = source["system"]
        examples = [{"messages": [*asked(system, text), answer(right)]} for _, text, right in unique(train)]
        rows = [{"id": name, "messages": asked(system, text), "target": right} for name, text, right in cases]
        write(folder / "data" / "train.jsonl", examples)
        write(folder / "benchmark" / "cases.jsonl", rows)
        print(f"{folder.name}: {len(examples)} examples, {len(rows)} cases")


def labelled(source: dict[str, Any]) -> tuple[Rows, Rows]:
    """Examples and cases whose answer is a label."""
    slots, openers = source.get("slots", {}), source.get("openers", [])

    def rows(kind: str) -> Rows:
        for label, sentences in source["labels"].items():
            for number, sentence in enumerate(sentences[kind], start=1):
                for text in variants(sentence, slots, openers) if kind == "train" else [sentence]:
                    yield f"{label}-{number:02d}", text, label

    return rows("train"), rows("cases")


def variants(sentence: str, slots: dict[str, list[str]], openers: list[str]) -> list[str]:
    """The examples of one sentence."""
    seed = digest(sentence)
    if "{" in sentence:
        first, second = (
            {name: words[(seed // (i + 1) + turn * 3) % len(words)] for i, (name, words) in enumerate(slots.items())}
            for turn in (0, 1)
        )
        return [sentence.format(**first), sentence.format(**second)]
    if openers:
        return [sentence, openers[seed % len(openers)] + sentence[0].lower() + sentence[1:]]
    return [sentence]


def queries(source: dict[str, Any]) -> tuple[Rows, Rows]:
    """Examples and cases whose answer is a JSON object."""
    fields = source["fields"]

    def framed() -> Rows:
        for frame in source["frames"]:
            for turn in range(source["fills"]):
                values, phrases = {}, {}
                for field, known in fields.items():
                    seed = digest(f"{frame} {turn} {field}")
                    value = values[field] = list(known)[seed % len(known)]
                    phrases[field] = known[value][seed // len(known) % len(known[value])]
                text = frame.format(**phrases)
                yield "framed", text[0].upper() + text[1:], compact(values)

    def whole(kind: str) -> Rows:
        for number, (*values, text) in enumerate(source[kind], start=1):
            unknown = [value for value, known in zip(values, fields.values(), strict=True) if value not in known]
            if unknown:
                sys.exit(f"unknown value {unknown[0]} of: {text}")
            yield f"query-{number:03d}", text, compact(dict(zip(fields, values, strict=True)))

    return itertools.chain(framed(), whole("questions")), whole("cases")


def unique(rows: Rows) -> Rows:
    """Each text once: two fillings of a frame may meet."""
    seen: set[str] = set()
    for row in rows:
        if row[1] not in seen:
            seen.add(row[1])
            yield row


def compact(values: dict[str, str]) -> str:
    """JSON without spaces: fewer tokens."""
    return json.dumps(values, separators=(",", ":"))


def digest(text: str) -> int:
    """A number that only depends on the text."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)


def asked(system: str, text: str) -> list[dict[str, str]]:
    """The conversation up to the answer."""
    return [{"role": "system", "content": system}, {"role": "user", "content": text}]


def answer(target: str) -> dict[str, str]:
    """The assistant's turn."""
    return {"role": "assistant", "content": target}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """One JSON object on each line."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
