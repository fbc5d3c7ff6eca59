"""Which rule that refuses is overridden where: `allow:` of agent.yaml, `gitune:allow` of a stack."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from gitune.sunset import as_date
from gitune.validation import Value

AgentRule: TypeAlias = Literal[
    "delete-serving-model", "unproven-model", "tag-mismatch", "base-model-ended", "no-licence"
]
Rule: TypeAlias = Literal[AgentRule, "fleet-share"]


class Allow(Value):
    """One rule that does not refuse this agent."""

    rule: Annotated[AgentRule, Field(description="Its name, as the plan says it.")]
    reason: Annotated[str, Field(description="Why; shown in the plan.")] = ""
    until: Annotated[
        date | None, BeforeValidator(as_date), Field(description='The last day on which it holds: "2027-01-31".')
    ] = None


class StackAllow(Allow):
    """One rule that does not refuse in this stack."""

    rule: Rule  # type: ignore[assignment]  # one more than of an agent
    agent: Annotated[str | None, Field(description="Only this agent; left out: all. It may be gone already.")] = None
