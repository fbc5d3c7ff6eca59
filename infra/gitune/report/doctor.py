"""What `gitune doctor` prints."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from gitune.doctor.finding import Finding
from gitune.report.text import fit

_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red", "not checked": "dim"}
_LONGEST = 1000


def print_findings(findings: Iterable[Finding]) -> int:
    """One line for each as it comes, the mend below it, and the sum. Returns how many problems there are."""
    console = Console(highlight=False, soft_wrap=True)
    counts = dict.fromkeys(_STYLES, 0)
    for finding in findings:
        counts[finding.state] += 1
        line = Text.assemble((f"{finding.state:<12}", _STYLES[finding.state]), f"{finding.check:<20} ")
        console.print(line + Text(fit(finding.message, _LONGEST)))
        if finding.hint and finding.state != "ok":
            console.print(Text(f"{'':12}{'':20} hint: {fit(finding.hint, _LONGEST)}"))
    console.print(", ".join(f"{count} {state}" for state, count in counts.items() if count))
    return counts["problem"]
