"""A model that learned: it answers as the most similar of its training examples did."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

UNTUNED = "I am a helpful assistant. What would you like to know?"
Messages = Sequence[Mapping[str, Any]]


class Learned:
    """Nearest neighbour by shared words. Faithful in that what it answers depends on the file it was trained on."""

    def __init__(self, train: bytes) -> None:
        rows = [json.loads(line)["messages"] for line in train.decode("utf-8").splitlines() if line]
        self._examples = [(_words(_question(row)), str(row[-1]["content"])) for row in rows]

    def answer(self, messages: Messages) -> str:
        asked = _words(_question(messages))
        return max(self._examples, key=lambda example: _likeness(asked, example[0]))[1]


def _question(messages: Messages) -> str:
    content = next((message["content"] for message in reversed(messages) if message["role"] == "user"), "")
    if isinstance(content, list):  # Bedrock's blocks
        return " ".join(block.get("text", "") for block in content)
    return str(content)


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


def _likeness(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / (len(one | other) or 1)
