"""What `gitune new` made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gitune.new_agent.cut import FEWEST_CASES
from gitune.new_agent.proposal import Proposal

_MANY = 1_000
"""Measured on two cores: 380 short examples in 71 s, 142 in 88 s under load."""
_ROLES = {"user": "question", "assistant": "answer"}


def new_agent_facts(proposal: Proposal, warned: Mapping[str, int], program: str) -> dict[str, object]:
    """For --json. `warned` counts what each rule only warned of."""
    wishes, table, cut = proposal.wishes, proposal.table, proposal.cut
    return {
        "agent": wishes.name,
        "folder": f"agents/{wishes.name}",
        "from": table.file.shown,
        "kind": table.file.kind,
        "rows": len(table.rows),
        "format": proposal.shape.format or "columns",
        "columns": dict(proposal.shape.columns or {}),
        "scorer": proposal.scoring.scorer,
        "scorer_reason": proposal.scoring.reason,
        "questions": proposal.questions,
        "cases": len(cut.cases),
        "training": len(cut.training),
        "repeats": cut.repeats,
        "near_cases": cut.near,
        "dropped": proposal.dropped,
        "validation": proposal.validation,
        "providers": list(wishes.providers),
        "linked": wishes.link,
        "warnings": dict(sorted(warned.items())),
        "next": f"{program} plan",
    }


def new_agent_lines(proposal: Proposal, warned: Mapping[str, int], program: str) -> Iterator[str]:
    """What was made, what was left out, and what to do next."""
    wishes, cut, columns = proposal.wishes, proposal.cut, proposal.shape.columns
    shape = "; ".join(f"{_ROLES.get(role, role)}: {column}" for role, column in (columns or {}).items())
    left = ((proposal.dropped, "by rules"), (cut.repeats, "repeated"), (cut.near, "near a case"))
    chosen = f"{min(wishes.examples, len(cut.training))} of " if wishes.examples else ""
    lines = {
        "from": f"{proposal.table.file.shown}: {proposal.table.file.kind}, {len(proposal.table.rows)} rows",
        "shape": shape or proposal.shape.format,
        "scorer": f"{proposal.scoring.scorer}: {proposal.scoring.reason}",
        "benchmark": f"{len(cut.cases)} of {proposal.questions} questions",
        "training": f"{chosen}{len(cut.training)} examples, {proposal.validation:.0%} held back to follow the loss",
        "left out": ", ".join(f"{count} {what}" for count, what in left if count),
        "warnings": ", ".join(f"{count} {rule}" for rule, count in sorted(warned.items())),
    }
    yield from (f"{name:<10} {text}" for name, text in lines.items() if text)
    yield f"wrote agents/{wishes.name}: agent.yaml and its benchmark{'' if wishes.link else ' and data'}"
    if warned:
        yield f"what is warned of: {program} dataset show {wishes.name}"
    if len(cut.cases) < FEWEST_CASES:
        yield f"{len(cut.cases)} cases prove little: collect more examples, a gate wants {FEWEST_CASES} cases"
    if "local" in wishes.providers and wishes.examples is None and len(cut.training) > _MANY:
        yield (
            f"{len(cut.training)} examples train for long on this machine, three to ten minutes for each 1,000 short "
            f"ones on two cores: dataset.examples: 500 in agent.yaml is a start"
        )
    yield f"next: {program} plan"
