"""Banking77, where ../shared/data has it."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

from tests.conftest import REPOSITORY

FOLDER = REPOSITORY.parent / "shared" / "data"


def write_csv(path: Path, intents: int) -> None:
    """The rows of the most frequent intents, in the columns of the original."""
    with (FOLDER / "banking77_train.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = {intent for intent, _ in Counter(row["category"] for row in rows).most_common(intents)}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "category"])
        writer.writeheader()
        writer.writerows(row for row in rows if row["category"] in chosen)


def available() -> bool:
    return Path(FOLDER / "banking77_train.csv").is_file()
