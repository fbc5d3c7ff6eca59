"""What a model is tempted with, and the labelled answers that its judges are tried on.

The prompts come in pairs that differ in little but whether they may be done (after XSTest, Röttger et al., NAACL 2024,
arXiv:2308.01263). Those of this package are original and harmless to publish; XSTest's own CSV is taken by path.
"""

from __future__ import annotations

import csv
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gitune.dataset.chat import read_jsonl
from gitune.errors import InvalidInput, Problem
from gitune.hashing import sha256

Label = Literal["harmful", "benign"]
_PROMPTS = Path(__file__).with_name("safety_prompts.jsonl")
_LABELLED = Path(__file__).with_name("safety_labelled.jsonl")
_KEYS = {"id", "prompt", "label", "pair"}
_XSTEST = {"safe": "benign", "unsafe": "harmful"}


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request. `pair` names its contrast, which differs in little but its label."""

    prompt_id: str
    text: str
    label: Label
    pair: str | None = None


@dataclass(frozen=True, slots=True)
class Labelled:
    """An answer of which a person has said whether it did what was asked."""

    prompt: str
    answer: str
    complied: bool


def load_prompts(path: Path | None = None) -> tuple[Prompt, ...]:
    """JSONL of {id, prompt, label, pair}, or XSTest's CSV (id, prompt, label); None: gitune's own.

    Raises InvalidInput.
    """
    prompts, problems = _read(path or _PROMPTS, str(path))
    if problems:
        raise InvalidInput(problems)
    return tuple(prompts)


def check_prompts(path: Path, root: Path) -> list[Problem]:
    """What is wrong with the file of an agent."""
    return _read(path, Path(os.path.relpath(path, root)).as_posix())[1]


def prompts_fingerprint(prompts: tuple[Prompt, ...]) -> str:
    """Hex SHA-256 of what is asked; the order does not matter."""
    return sha256(sorted(f"{prompt.label} {prompt.text}" for prompt in prompts))


def load_labelled() -> tuple[Labelled, ...]:
    """gitune's own set: as many answers that did what was asked as answers that did not, to both kinds of prompts."""
    return tuple(Labelled(**json.loads(line)) for line in _LABELLED.read_text(encoding="utf-8").splitlines())


def labelled_fingerprint() -> str:
    """Hex SHA-256 of gitune's own set: judges who passed on another one are tried again."""
    return sha256([_LABELLED.read_text(encoding="utf-8")])


def _read(path: Path, file: str) -> tuple[list[Prompt], list[Problem]]:
    problems: list[Problem] = []
    prompts = (_read_csv if path.suffix == ".csv" else _read_jsonl)(path, file, problems)
    ids = [prompt.prompt_id for prompt in prompts]
    problems += [Problem(file, 0, f"id '{one}' stands twice") for one in sorted({i for i in ids if ids.count(i) > 1})]
    lacking = [label for label in ("harmful", "benign") if all(prompt.label != label for prompt in prompts)]
    if lacking and not problems:
        hint = "safety compares what may be done with what may not"
        problems.append(Problem(file, 0, f"no {lacking[0]} prompt in this file", hint))
    return prompts, problems


def _read_jsonl(path: Path, file: str, problems: list[Problem]) -> list[Prompt]:
    prompts = []
    for line, row in read_jsonl(path, file, problems):
        wrong = _wrong(row)
        if wrong:
            problems.append(Problem(file, line, wrong, "keys: id, prompt, label (harmful, benign), pair"))
        else:
            prompts.append(Prompt(row["id"], row["prompt"], row["label"], row.get("pair")))
    return prompts


def _wrong(row: dict[str, Any]) -> str | None:
    unknown = sorted(set(row) - _KEYS)
    if unknown:
        return f"unknown key '{unknown[0]}'"
    for key in ("id", "prompt"):
        if not isinstance(row.get(key), str) or not row[key].strip():
            return f"'{key}' must be text that is not empty"
    if row.get("label") not in ("harmful", "benign"):
        return f"'label' cannot be {row.get('label')!r}"
    return None if isinstance(row.get("pair", ""), str) else "'pair' must be text"


def _read_csv(path: Path, file: str, problems: list[Problem]) -> list[Prompt]:
    prompts: list[Prompt] = []
    try:
        rows = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines())
    except UnicodeDecodeError:
        problems.append(Problem(file, 0, "not UTF-8 text", "save the file as UTF-8"))
        return prompts
    if not {"prompt", "label"} <= set(rows.fieldnames or ()):
        problems.append(Problem(file, 1, "no columns 'prompt' and 'label'", "XSTest has id, prompt, label"))
        return prompts
    for row in rows:
        label = _XSTEST.get(row["label"], row["label"])
        if label not in ("harmful", "benign"):
            problems.append(Problem(file, rows.line_num, f"'label' cannot be {row['label']!r}", "safe, unsafe"))
        elif not (row["prompt"] or "").strip():
            problems.append(Problem(file, rows.line_num, "'prompt' must be text that is not empty"))
        else:
            prompts.append(Prompt(f"xstest-{row.get('id') or rows.line_num}", row["prompt"], label))  # type: ignore[arg-type]
    return prompts
