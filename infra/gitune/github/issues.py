"""One issue for each agent that drifts: updated while it does, closed when it does no more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from github.Issue import Issue

from gitune.drift import Finding
from gitune.github.client import Client
from gitune.github.marked import marker, marker_values
from gitune.hashing import canonical_json, sha256
from gitune.report.drift import drift_markdown
from gitune.report.markdown import COMMENT_LIMIT, length

LABEL = "drift"


@dataclass(frozen=True, slots=True)
class Filed:
    """What became of one subject's issue."""

    subject: str
    """An agent, or a provider's account."""
    what: Literal["created", "updated", "unchanged", "closed", "left alone"]
    url: str | None


def file_issues(client: Client, findings: Sequence[Finding], stack: str) -> Iterator[Filed]:
    """Open, update and close, so that there is one open issue of ours for each subject that drifts and no other.

    One that somebody closed as not planned stays closed while it says the same. A provider that did not answer closes
    nothing of what it was asked about.
    """
    drift = [finding for finding in findings if finding.drift]
    silent = {finding.provider for finding in findings if finding.kind == "unreachable"}
    known = _known(client, stack)
    for subject in dict.fromkeys(_subject(finding) for finding in drift):
        yield _put(client, stack, subject, [one for one in drift if _subject(one) == subject], known.pop(subject, []))
    for subject, issues in known.items():
        for issue in issues:
            asked = (marker_values(issue.body, "drift") or ())[3:]
            if issue.state == "open" and not silent & set(asked):
                issue.create_comment(f"`gitune drift -s {stack}` finds nothing of it any more.")
                issue.edit(state="closed", state_reason="completed")
                yield Filed(subject, "closed", issue.html_url)


def _known(client: Client, stack: str) -> dict[str, list[Issue]]:
    """Ours by subject, all pages: the open ones first, then the newest."""
    found: dict[str, list[Issue]] = {}
    for issue in client.repository.get_issues(state="all", creator=client.user):
        values = marker_values(issue.body, "drift")
        if values and values[0] == stack and client.is_ours(issue.user):
            found.setdefault(values[1], []).append(issue)
    for issues in found.values():
        issues.sort(key=lambda one: (one.state != "open", -one.number))
    return found


def _put(client: Client, stack: str, subject: str, drift: Sequence[Finding], issues: Sequence[Issue]) -> Filed:
    said = sha256([canonical_json([finding.as_dict() for finding in drift])])[:16]
    providers = sorted({finding.provider for finding in drift if finding.provider})
    body = f"{marker('drift', stack, subject, said, *providers)}\n{_fitting(drift, stack)}"
    title = f"Drift: {subject} ({stack})"
    for twin in issues[1:]:
        if twin.state == "open":
            twin.edit(state="closed", state_reason="not_planned")
    latest = issues[0] if issues else None
    if latest is not None and latest.state == "open":
        if (latest.body or "").rstrip() == body.rstrip():
            return Filed(subject, "unchanged", latest.html_url)
        latest.edit(title=title, body=body)
        return Filed(subject, "updated", latest.html_url)
    refused = latest is not None and latest.state_reason == "not_planned"
    if latest is not None and refused and said in (marker_values(latest.body, "drift") or ()):
        return Filed(subject, "left alone", latest.html_url)
    return Filed(subject, "created", client.repository.create_issue(title, body, labels=[LABEL]).html_url)


def _fitting(drift: Sequence[Finding], stack: str) -> str:
    """As many findings as an issue takes, whole."""
    shown = len(drift)
    while True:
        left = len(drift) - shown
        more = f"\n{left:,} more: `gitune drift -s {stack}`\n" if left else ""
        text = drift_markdown(drift[:shown], stack) + more
        if length(text) <= COMMENT_LIMIT or shown == 1:
            return text
        shown = max(1, shown * 3 // 4)


def _subject(finding: Finding) -> str:
    return finding.agent or f"account@{finding.provider}"
