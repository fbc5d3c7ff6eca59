"""Texts as the rules compare them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from gitune.dataset.chat import Example, Message
from gitune.hashing import sha256

SHINGLE = 5
"""Characters. Short enough for one-line messages, long enough that common letters do not make texts alike."""


def normal(text: str) -> str:
    """Up to case, spaces and the many Unicode spellings of one letter (NFKC)."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def asked(messages: tuple[Message, ...]) -> str:
    """The user's words of a conversation, normalised: what a benchmark case and an example have in common."""
    return "\n".join(normal(message.content) for message in messages if message.role == "user")


def system(example: Example) -> str:
    """The system message, normalised; empty when there is none."""
    first = example.messages[0] if example.messages else None
    return normal(first.content) if first is not None and first.role == "system" else ""


def said(message: Message) -> str:
    """A message with the tools that it calls."""
    calls = [f"{call.name} {call.arguments}" for call in message.tool_calls]
    return "\n".join([message.content, *calls]) if calls else message.content


def turns(example: Example) -> str:
    """All turns but the system message, which many examples share and which would make all of them alike."""
    return "\n".join(f"{m.role[0]} {normal(said(m))}" for m in example.messages if m.role != "system")


def shingles(text: str) -> list[str]:
    """Every run of SHINGLE characters; a shorter text is one shingle."""
    return [text[i : i + SHINGLE] for i in range(max(len(text) - SHINGLE + 1, 1))]


def jaccard(one: str, other: str) -> float:
    """Share of common shingles, 0 to 1: |A n B| / |A u B| (Jaccard 1912)."""
    a, b = set(shingles(one)), set(shingles(other))
    return len(a & b) / len(a | b)


def key(example: Example) -> str:
    """A hash to order by, so that what a rule keeps does not depend on the order of sources."""
    return sha256([example.canonical()])


def place(example: Example) -> str:
    """file:line."""
    return f"{example.file}:{example.line}"


def texts(example: Example) -> Iterator[tuple[str, str]]:
    """Everything in the example that a model would read or learn to say, with its name."""
    for index, message in enumerate(example.messages):
        yield f"messages[{index}]", said(message)
    if example.tools:
        yield "tools", example.tools
