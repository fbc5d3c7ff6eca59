"""Rules that refuse: what a pass must not do unless somebody says so by name. One pure function for each rule.

They look at what a pass would change. What serves already and stays is refused by nobody, so that the end of one
agent's base model never blocks the rollback of another's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from gitune.allow_spec import Allow, Rule, StackAllow
from gitune.lock import Lock
from gitune.passport import Passport
from gitune.sunset import Notice


@dataclass(frozen=True, slots=True)
class Serving:
    """What answers to an agent's alias, as it was recorded."""

    alias: str
    provider: str
    model_id: str
    """Empty: the route is gone, and the next pass writes it again."""
    version: str


@dataclass(frozen=True, slots=True)
class Deploying:
    """One agent's alias before and after a pass."""

    agent: str
    serving: Serving | None
    lock: Lock | None
    """None: nothing will answer."""
    passport: Passport | None = None
    """None: the lock names none, or it is missing or damaged."""
    tag: str = ""
    """How the tag of the lock's version contradicts it."""
    unlicensed: tuple[str, ...] = ()
    """Sources without a licence note."""
    ended: Notice | None = None
    """The end of the base model's answers, where it is past."""

    @property
    def removed(self) -> bool:
        return self.serving is not None and self.lock is None

    @property
    def brought(self) -> Lock | None:
        """The lock, where its model does not answer already."""
        if self.serving is None or self.lock is None:
            return self.lock
        if not self.serving.model_id:
            return None if self.serving.version == self.lock.version else self.lock
        same = (self.serving.provider, self.serving.model_id) == (self.lock.provider, self.lock.model_id)
        return None if same else self.lock


@dataclass(frozen=True, slots=True)
class Submitting:
    """A training that a pass would pay for."""

    agent: str
    base_model: str
    unlicensed: tuple[str, ...] = ()
    ended: Notice | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a rule says no to, and what to do next. `agent` is empty where it is about all of them."""

    rule: Rule
    agent: str
    reason: str
    hint: str


@dataclass(frozen=True, slots=True)
class Ruling:
    """A refusal, and what overrides it."""

    refusal: Refusal
    allowed: str = ""
    """By whom; empty: it stands."""

    @property
    def stands(self) -> bool:
        return not self.allowed

    def as_dict(self) -> dict[str, Any]:
        """For --json; in a plan it stands among the changes, told apart by its action."""
        said = self.refusal
        facts = {"agent": said.agent, "action": "refuse" if self.stands else "allow", "rule": said.rule}
        return {**facts, "summary": said.reason, "hint": said.hint, "allowed": self.allowed or None}


def delete_serving_model(deploying: Deploying) -> Refusal | None:
    """A model that answers would no longer answer, because its folder, its lock or its deployment is gone."""
    if deploying.serving is None or not deploying.removed:
        return None
    serving = deploying.serving
    reason = f"alias {serving.alias} answers with {serving.model_id or serving.version}, and would answer no more"
    return Refusal("delete-serving-model", deploying.agent, reason, "bring back its folder and its lock with git")


def unproven_model(deploying: Deploying) -> Refusal | None:
    """A model would be deployed for which no gate has said pass."""
    lock = deploying.brought
    if lock is None:
        return None
    outcome = lock.verdict.get("outcome")
    if outcome != "pass":
        return _unproven(deploying, f"the verdict on {lock.model_id} is {outcome or 'missing'}, not pass")
    if lock.passport is None:
        return None
    if deploying.passport is None:
        return _unproven(deploying, "its passport is missing or damaged, so the verdict may be another model's")
    judged = deploying.passport.lock
    if (judged.get("model_id"), judged.get("provider")) != (lock.model_id, lock.provider):
        return _unproven(deploying, f"the verdict is of {judged.get('model_id')}, not of {lock.model_id}")
    return None


def _unproven(deploying: Deploying, reason: str) -> Refusal:
    hint = f"see gitune verify {deploying.agent}; a model of your own passes its gate with: gitune up -s training"
    return Refusal("unproven-model", deploying.agent, reason, hint)


def tag_mismatch(deploying: Deploying) -> Refusal | None:
    """A lock says something else than the tag of its version."""
    if deploying.brought is None or not deploying.tag:
        return None
    hint = "a version is one model: restore the lock with git, or give it a version of its own"
    return Refusal("tag-mismatch", deploying.agent, deploying.tag, hint)


def base_model_ended(change: Deploying | Submitting) -> Refusal | None:
    """A model would be deployed, or paid for, whose base model no longer answers."""
    if change.ended is None or (isinstance(change, Deploying) and change.brought is None):
        return None
    return Refusal("base-model-ended", change.agent, change.ended.message, change.ended.hint)


def no_licence(change: Deploying | Submitting) -> Refusal | None:
    """A model would be deployed, or paid for, whose examples came from a source without a licence note."""
    if not change.unlicensed or (isinstance(change, Deploying) and change.brought is None):
        return None
    more = f" and {len(change.unlicensed) - 1} more" if len(change.unlicensed) > 1 else ""
    reason = f"no licence is noted for {change.unlicensed[0]}{more}"
    return Refusal(
        "no-licence", change.agent, reason, f"add licence: to the sources in agents/{change.agent}/agent.yaml"
    )


def fleet_share(deployings: Sequence[Deploying], share: float) -> Refusal | None:
    """More than a share of the agents that answer would change or vanish at once. One of them always may."""
    serving = [one for one in deployings if one.serving is not None]
    changed = [one.agent for one in serving if one.removed or one.brought is not None]
    if len(changed) <= max(1, int(share * len(serving) + _ROUNDING)):
        return None
    reason = f"{len(changed)} of {len(serving)} deployed agents would change at once, more than {share:.0%}"
    some = ", ".join(changed[:_SHOWN]) + (", ..." if len(changed) > _SHOWN else "")
    return Refusal("fleet-share", "", f"{reason}: {some}", "merge the locks in smaller steps, and deploy each")


_ROUNDING = 1e-9  # 0.29 of 100 are 29
_SHOWN = 5


def find_refusals(
    deployings: Sequence[Deploying], submittings: Iterable[Submitting], share: float
) -> Iterator[Refusal]:
    """All of them, whether anything overrides them or not."""
    fleet = fleet_share(deployings, share)
    if fleet is not None:
        yield fleet
    for deploying in deployings:
        rules = (delete_serving_model, unproven_model, tag_mismatch, base_model_ended, no_licence)
        yield from filter(None, (rule(deploying) for rule in rules))
    for submitting in submittings:
        yield from filter(None, (base_model_ended(submitting), no_licence(submitting)))


def rule_on(
    refusal: Refusal,
    forced: Collection[str],
    of_agents: Mapping[str, Sequence[Allow]],
    of_stack: Sequence[StackAllow],
    today: date,
) -> Ruling:
    """Whether somebody has said that this may be done. The last day of an allowance is part of it."""
    if refusal.rule in forced:
        return Ruling(refusal, f"--force {refusal.rule}")
    own = [(allow, f"agents/{refusal.agent}/agent.yaml") for allow in of_agents.get(refusal.agent, ())]
    all_ = [(allow, "gitune:allow") for allow in of_stack if allow.agent in (None, refusal.agent)]
    for allow, where in (*own, *all_):
        if allow.rule == refusal.rule and (allow.until is None or today <= allow.until):
            until = f" until {allow.until}" if allow.until else ""
            return Ruling(refusal, f"{where}{until}{f': {allow.reason}' if allow.reason else ''}")
    return Ruling(refusal)
