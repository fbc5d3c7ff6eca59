"""All rules in order, each with the consequence that agent.yaml gives it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from gitune.dataset.chat import Example
from gitune.dataset.rules import content, keys, leaks, personal, repeats
from gitune.dataset.rules.base import DEFAULTS, Context, Finding, Rule, Settings
from gitune.errors import Problem
from gitune.spec import RuleId

if TYPE_CHECKING:  # cases are made of messages: importing them here would go in a circle
    from gitune.benchmark.cases import Case

# In this order, because a dropped example is out of the later rules: what cannot be used goes first, so that of two
# duplicates the one without a secret stays, and no contradiction is seen between examples that are gone.
RULES: Mapping[RuleId, Rule] = MappingProxyType(
    {
        "schema": content.schema,
        "encoding": content.encoding,
        "language": content.language,
        "email": personal.email,
        "phone": personal.phone,
        "credit-card": personal.credit_card,
        "api-key": keys.api_key,
        "too-long": content.too_long,
        "leak": leaks.leak,
        "near-leak": leaks.near_leak,
        "exact-duplicate": repeats.exact_duplicate,
        "near-duplicate": repeats.near_duplicate,
        "contradiction": repeats.contradiction,
    }
)
MAX_PROBLEMS = 20  # of one rule: enough to see the pattern; the report lists all


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What is left of a dataset, and everything that was found."""

    kept: tuple[Example, ...]
    findings: tuple[Finding, ...]

    def problems(self) -> list[Problem]:
        """The findings that stop a plan, at most MAX_PROBLEMS of each rule and a count of the others."""
        problems: list[Problem] = []
        seen: Counter[RuleId] = Counter()
        for finding in self.findings:
            if finding.severity != "error":
                continue
            seen[finding.rule] += 1
            if seen[finding.rule] <= MAX_PROBLEMS:
                problems.append(finding.problem())
            elif seen[finding.rule] == MAX_PROBLEMS + 1:
                total = sum(f.rule == finding.rule for f in self.findings)
                more = f"{total - MAX_PROBLEMS} more findings of rule {finding.rule}"
                problems.append(Problem(finding.file, finding.line, more, "mend the ones above first"))
        return problems


def apply(examples: Sequence[Example], cases: Sequence[Case], settings: Settings) -> Cleaned:
    """Run every rule that is not off. Findings are in the order of rules, then of examples."""
    kept = list(examples)
    findings: list[Finding] = []
    context = Context(cases, settings)
    for name, rule in RULES.items():
        severity = settings.severities.get(name, DEFAULTS[name])
        if severity == "off":
            continue
        gone: set[int] = set()
        for hit in rule(kept, context):
            example, dropped = kept[hit.index], severity == "drop"
            findings.append(Finding(name, severity, example.file, example.line, hit.message, hit.hint, dropped, hit.at))
            if dropped:
                gone.add(hit.index)
        kept = [example for index, example in enumerate(kept) if index not in gone] if gone else kept
    return Cleaned(tuple(kept), tuple(findings))
