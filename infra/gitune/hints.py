"""What the user may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """A hint with the closest known word, if one is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else None


def one_of(known: Iterable[str]) -> str | None:
    """A hint with all known words, if there are any."""
    names = ", ".join(known)
    return f"known: {names}" if names else None
