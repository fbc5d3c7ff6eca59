"""What the rules found, for people and for programs: `findings.jsonl` and `summary.json`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gitune.dataset.rules.run import Cleaned
from gitune.files import write_atomic
from gitune.hashing import canonical_json

FINDINGS_FILE = "findings.jsonl"
SUMMARY_FILE = "summary.json"


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts. An example that several rules warn of is counted by each; a dropped one by the rule that dropped it."""

    read: int
    kept: int
    dropped: dict[str, int]
    errors: dict[str, int]
    warnings: dict[str, int]


def summarise(cleaned: Cleaned) -> Summary:
    """Counts by rule. `read` is kept plus dropped: an example that is neither would be a bug, and a test says so."""
    by: dict[str, Counter[str]] = {"drop": Counter(), "error": Counter(), "warn": Counter()}
    for finding in cleaned.findings:
        by[finding.severity][finding.rule] += 1
    dropped, kept = sum(by["drop"].values()), len(cleaned.kept)
    return Summary(kept + dropped, kept, dict(by["drop"]), dict(by["error"]), dict(by["warn"]))


def findings_jsonl(cleaned: Cleaned) -> str:
    """One finding a line. The example's text is left out: the place leads there, and a secret is not written twice."""
    rows = (
        {
            "dropped": finding.dropped,
            "file": finding.file,
            "hint": finding.hint,
            "line": finding.line,
            "reason": finding.message,
            "rule": finding.rule,
            "severity": finding.severity,
        }
        for finding in cleaned.findings
    )
    return msgspec.json.Encoder().encode_lines(rows).decode()


def write_report(cleaned: Cleaned, folder: Path) -> Summary:
    """Write both files into the folder, each in one step."""
    summary = summarise(cleaned)
    counts = {
        "read": summary.read,
        "kept": summary.kept,
        "dropped": summary.dropped,
        "errors": summary.errors,
        "warnings": summary.warnings,
    }
    write_atomic(folder / FINDINGS_FILE, findings_jsonl(cleaned))
    write_atomic(folder / SUMMARY_FILE, canonical_json(counts) + "\n")
    return summary
