"""Markdown for GitHub from texts that nobody has checked, and its size."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gitune.report.text import fit

COMMENT_LIMIT = 60_000
"""GitHub takes comments of 65,536 characters."""
SUMMARY_LIMIT = 900_000
"""GitHub takes job summaries of 1 MiB."""
_LONGEST = 1000


def escaped(text: str, longest: int = _LONGEST) -> str:
    """One line that is text to GitHub and nothing else: no markup, no cell, no link, no mention, no reference."""
    line = fit(text, longest)
    coded = re.sub(r"[!-&*+./:-@\[-`{-~]", lambda found: f"&#{ord(found[0])};", line)
    coded = re.sub(r"^-", "&#45;", re.sub(r"^(\d+)\)", r"\1&#41;", coded))  # a list in a list
    coded = re.sub(r"(?i)gh-(?=\d)", r"\g<0><!-- -->", coded)
    return re.sub(r"&#(?:35|64);", r"\g<0><!-- -->", coded)  # mentions and references are looked for after Markdown


def code(text: str, longest: int = _LONGEST) -> str:
    """The same in the type of code: what is to be copied, and names."""
    return f"<code>{escaped(text, longest)}</code>"


def row(cells: Iterable[str]) -> str:
    """A table's row of cells that are Markdown already."""
    return f"| {' | '.join(cells)} |\n"


def header(*titles: str) -> str:
    """The first two lines of a table."""
    return row(titles) + f"|{'---|' * len(titles)}\n"


def details(summary: str, lines: Sequence[str]) -> str:
    """A list that is folded. All of it is Markdown already."""
    return f"<details><summary>{summary}</summary>\n\n{bullets(lines)}\n</details>\n\n"


def bullets(lines: Iterable[str]) -> str:
    """A list of what is Markdown already."""
    return "".join(f"- {line}\n" for line in lines)


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a text that stands or is left out as a whole."""

    text: str
    weight: int = 0
    """What may be left out goes by weight, the lightest first and of those the last; 0: it always stands."""
    what: str = ""
    """What a reader misses without it, in a word such as "row"."""


def length(text: str) -> int:
    """As GitHub may count it: characters beyond the basic plane are two."""
    return len(text) + sum(char > "\uffff" for char in text)


def fitted(blocks: Sequence[Block], limit: int) -> tuple[str, dict[str, int]]:
    """The text of the blocks that fit, and how many of each kind were left out."""
    room = limit - sum(length(block.text) for block in blocks)
    gone: set[int] = set()
    for number in sorted((n for n, block in enumerate(blocks) if block.weight), key=lambda n: (blocks[n].weight, -n)):
        if room >= 0:
            break
        gone.add(number)
        room += length(blocks[number].text)
    missed: dict[str, int] = {}
    for number in sorted(gone):
        missed[blocks[number].what] = missed.get(blocks[number].what, 0) + 1
    return "".join(block.text for number, block in enumerate(blocks) if number not in gone), missed
