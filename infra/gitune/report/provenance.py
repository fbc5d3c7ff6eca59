"""What `gitune verify` prints."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gitune.verify import Link

_STYLES = {"ok": "green", "broken": "bold red", "unchecked": "yellow"}


def print_links(links: Sequence[Link]) -> None:
    """One line for each link, and the sum."""
    console = Console(highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("agent", "link", "state", "detail"):
        table.add_column(title, no_wrap=title != "detail", overflow="fold")
    for link in links:
        table.add_row(link.agent, link.name, Text(link.state, _STYLES[link.state]), Text(link.detail))
    console.print(table)
    counts = {state: sum(link.state == state for link in links) for state in _STYLES}
    console.print(", ".join(f"{count} {state}" for state, count in counts.items()))
