"""One round: ask each provider once for its jobs, decide for all agents together, and hand the targets to the engine.

The engine's resources are created and updated one by one, in a process of their own, and none of them knows the others.
So `gitune up` and `gitune plan` decide before the engine runs, and leave what they decided in a file that
resources/model.py reads. `pulumi up` without gitune makes its round itself, in the first resource that needs it.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gitune.limits import Heard
from gitune.look import UNRECORDED, Look
from gitune.project import Project
from gitune.providers.base import Job
from gitune.providers.needs import declared_limits
from gitune.reconcile import ModelState, Target, target
from gitune.scheduler import Candidate, Wanted, decide, earliest

if TYPE_CHECKING:
    from gitune.wishes import Wish

ROUND_VARIABLE = "GITUNE_ROUND"
"""Names the file with the targets of this pass of the engine."""


@dataclass(frozen=True, slots=True)
class Round:
    """What was seen, and what is to be done about it."""

    targets: Mapping[str, Target]
    """By agent."""
    recorded: Mapping[str, ModelState]
    """What they were decided from."""
    jobs: Mapping[str, Job] = field(default_factory=dict)
    """By agent: the job that its target takes, as the provider has it now."""
    until: float | None = None
    """Seconds since 1970 at which the clock alone may change a target; None: never."""
    silent: Mapping[str, Heard] = field(default_factory=dict)
    """Providers whose list could not be had, and what they said."""
    seen: Mapping[str, Job | None] = field(default_factory=dict)
    """By training key, what providers said: the job, or None where there was none."""
    places: Mapping[str, int] = field(default_factory=dict)
    """By agent that waits: its place among those that wait at its provider, from 1."""

    @property
    def states(self) -> dict[str, ModelState]:
        """By agent: what will be recorded, before any submission has been answered."""
        return {agent: wanted.state for agent, wanted in self.targets.items()}

    @property
    def due(self) -> bool:
        """Whether the engine has something to do now: more than to write down that models are there.

        That is recorded by the pass that follows the gate. From when on something counts is recorded at once, or the
        next round would count anew.
        """
        return any(
            wanted.submit is not None
            or (wanted.state.status != "succeeded" and _news(wanted.state) != _news(self._before(agent)))
            for agent, wanted in self.targets.items()
        )

    @property
    def settled(self) -> bool:
        """Whether no target can change any more by itself."""
        return all(
            wanted.submit is None and wanted.state.status in ("succeeded", "failed") for wanted in self.targets.values()
        )

    def _before(self, agent: str) -> ModelState:
        return self.recorded.get(agent, UNRECORDED)


def take_round(
    project: Project,
    wishes: Sequence[Wish],
    recorded: Mapping[str, ModelState],
    now: float,
    *,
    started: float | None = None,
    retry: bool = False,
    before: Mapping[str, Heard] | None = None,
    known: Mapping[str, Job | None] | None = None,
) -> Round:
    """Ask, and decide. Starts nothing.

    `recorded` is by agent; `now` and `started`, when this command began, are in seconds since 1970; `before` is
    Round.silent of the round before, so that a provider that does not answer is asked less and less often. `known` is
    its Round.seen: then only jobs that may have changed are asked for, unless somebody is to be submitted.
    """
    look = Look(project, wishes, recorded, now, before or {}, known or {}, retry)
    states = look.states
    limits = look.limits(now if started is None else started)
    decisions = decide(
        [_wanted(wish, states[wish.agent]) for wish in wishes],
        look.jobs,
        look.use,
        limits,
        now,
    )
    if look.remembered and any(decision.action == "submit" for decision in decisions.values()):
        return take_round(project, wishes, recorded, now, started=started, retry=retry, before=before)
    declared = {name: declared_limits(name, project.settings(name)) for name in look.providers}
    targets = {
        wish.agent: target(decisions[wish.agent], wish.requests, states[wish.agent], declared, now) for wish in wishes
    }
    jobs = {agent: decision.job for agent, decision in decisions.items() if decision.job is not None}
    places = {agent: decision.place for agent, decision in decisions.items() if decision.place}
    return Round(targets, dict(recorded), jobs, earliest(decisions.values()), look.silent, look.seen, places)


def _news(state: ModelState) -> tuple[object, ...]:
    heard = [(item.at, item.beside) for item in state.heard]
    return state.status, heard, state.refused_at, state.rejected, state.forgiven


def _wanted(wish: Wish, state: ModelState) -> Wanted:
    candidates = tuple(
        Candidate(request.provider, request.key, wait, refused)
        for request, wait, refused in zip(wish.requests, wish.waits, wish.refused, strict=True)
    )
    return Wanted(
        wish.agent,
        candidates,
        size=wish.examples,
        queued_at=state.queued_at,
        refused_at=state.refused_at,
        rejected=state.rejected,
        not_before=state.not_before,
        forgiven=state.forgiven,
    )


@contextlib.contextmanager
def handed_over(taken: Round, project: Project) -> Iterator[Path]:
    """A file with the round's targets, for the processes of one pass."""
    folder = project.state_folder / "rounds"
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f"{project.stack.name}-", suffix=".json", dir=folder)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump({agent: wanted.as_dict() for agent, wanted in taken.targets.items()}, file)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def read_targets(path: Path) -> dict[str, Target]:
    """The targets that `handed_over` wrote."""
    written = json.loads(path.read_text(encoding="utf-8"))
    return {agent: Target.from_dict(facts) for agent, facts in written.items()}
