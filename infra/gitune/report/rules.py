"""What the rules that refuse say, in lines."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from gitune.refusals import Ruling


def ruling_line(ruling: Ruling) -> str:
    """Of which rule, whom it concerns, why, and by whom it is overridden."""
    said = ruling.refusal
    verdict = "refused" if ruling.stands else f"allowed by {ruling.allowed}"
    return f"! {said.agent or 'all agents'}: {said.rule}: {said.reason} ({verdict})"


def print_rulings(rulings: Sequence[Ruling]) -> None:
    """The verdict first, then each rule with what to do next."""
    console = Console(highlight=False, soft_wrap=True)
    standing = list(dict.fromkeys(ruling.refusal.rule for ruling in rulings if ruling.stands))
    if standing:
        console.print(f"blocked by {', '.join(standing)}: up would do nothing of what follows", markup=False)
    for ruling in rulings:
        console.print(ruling_line(ruling), markup=False)
        if ruling.stands:
            console.print(f"    hint: {ruling.refusal.hint}", markup=False)
