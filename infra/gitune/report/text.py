"""Plain text in columns: cut to a terminal's width, safe to print, the same with and without colours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.cells import cell_len, set_cell_size

_MOST_ROWS = 20


def fit(text: str, cells: int) -> str:
    """One line of at most `cells` cells. What would move the cursor or change colours is shown as a dot."""
    safe = harmless(" ".join(text.split()))
    return safe if cell_len(safe) <= cells else f"{set_cell_size(safe, cells - 1).rstrip()}…"


def harmless(line: str) -> str:
    """A line as it is, tabs aside, without what would move the cursor or change colours: that is shown as a dot."""
    plain = line.expandtabs()
    return plain if plain.isprintable() else "".join(char if char.isprintable() else "·" for char in plain)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Columns two spaces apart: the first to the left and cut where the line is too long, the others to the right."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(cell_len, column)) for column in columns]
    room = width - sum(widths[1:]) - 2 * (len(widths) - 1)
    widths[0] = min(max(cell_len(fit(cell, width)) for cell in columns[0]), max(room, 8))
    return ["  ".join(_cells(line, widths)).rstrip() for line in (header, *rows)]


def _cells(line: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    yield set_cell_size(fit(line[0], widths[0]), widths[0])
    for cell, width in zip(line[1:], widths[1:], strict=True):
        yield " " * (width - cell_len(cell)) + cell


def bar(count: int, most: int, cells: int, mark: str = "#") -> str:
    """As long as its share of the longest bar, rounded up: what is there at all is seen."""
    return mark * -(-cells * count // most) if most else ""


def largest(counts: Mapping[str, int], rows: int = _MOST_ROWS) -> list[tuple[str, int]]:
    """The first entries as they stand; the rest in one row that says how many they are."""
    items = list(counts.items())
    others = items[rows:]
    if not others:
        return items
    return [*items[:rows], (f"{len(others):,} others", sum(count for _, count in others))]
