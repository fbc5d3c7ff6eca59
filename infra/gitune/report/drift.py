"""Drift, for a terminal and for an issue on GitHub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gitune.drift import Finding
from gitune.report.markdown import escaped
from gitune.report.text import fit

_LONGEST = 1000


def print_drift(findings: Sequence[Finding], stack: str) -> None:
    """One line for each difference, what to do next, and then what was not or could not be asked."""
    console = Console(highlight=False, soft_wrap=True)
    drift = [finding for finding in findings if finding.drift]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("agent", "provider", "drift", "what"):
        table.add_column(title, no_wrap=title != "what")
    for finding in drift:
        cells = (finding.agent or "-", finding.provider or "-", finding.kind, finding.message)
        table.add_row(*(Text(fit(cell, _LONGEST)) for cell in cells))
    if drift:
        console.print(table)
    else:
        console.print(f"no drift found in {_asked(findings)}stack {stack}")
    for hint in dict.fromkeys((finding.agent or finding.provider, finding.hint) for finding in drift):
        console.print(Text(fit(f"hint: {': '.join(hint)}", _LONGEST)))
    for finding in findings:
        if not finding.drift:
            console.print(Text(fit(f"{finding.kind}: {finding.provider}: {finding.message}", _LONGEST)))


def drift_markdown(findings: Sequence[Finding], stack: str | None = None) -> str:
    """One section for each agent, then one for each provider's account; ends with a line feed."""
    drift = sum(finding.drift for finding in findings)
    count = f"{drift} difference{'' if drift == 1 else 's'}" if drift else "No drift found"
    parts = [f"{count}{f' in {_asked(findings)}stack {escaped(stack)}' if stack else ''}."]
    for title in dict.fromkeys(map(_title, findings)):
        parts += [f"## {escaped(title)}", "\n".join(_table([f for f in findings if _title(f) == title]))]
    return "\n\n".join(parts) + "\n"


def _asked(findings: Sequence[Finding]) -> str:
    """What is known of less than all is not said of all."""
    return "what could be asked of " if any(one.kind in ("unreachable", "not-checked") for one in findings) else ""


def _title(finding: Finding) -> str:
    return finding.agent or f"account at {finding.provider}"


def _table(findings: Sequence[Finding]) -> Iterator[str]:
    yield "| drift | provider | what | next |"
    yield "|---|---|---|---|"
    for finding in findings:
        kind = finding.kind if finding.drift else f"{finding.kind} (a note)"
        yield "| " + " | ".join(map(escaped, (kind, finding.provider, finding.message, finding.hint))) + " |"
