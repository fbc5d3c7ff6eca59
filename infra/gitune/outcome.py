"""Where each agent stands at the end of `gitune up`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from gitune.deploy import TakenBack
from gitune.lock import Lock
from gitune.reconcile import ModelState
from gitune.spec import AgentSpec

if TYPE_CHECKING:
    from gitune.plan import Change
    from gitune.promote import Promotion


@dataclass(frozen=True, slots=True)
class AgentOutcome:
    """One agent."""

    spec: AgentSpec
    state: ModelState | None
    promotion: Promotion | None
    lock: Lock | None
    served: bool
    """The stack declares deployments."""
    deployed: bool
    """The alias answers with the locked model."""
    changes: tuple[Change, ...]
    unjudged: str = ""
    """Why the trained model could not be benchmarked."""
    refusal: TakenBack | None = None
    """The model that failed its smoke test and was taken back."""

    @property
    def settled(self) -> bool:
        """The wanted model is trained, passed its gate and answers."""
        trained = self.state is None or self.state.status == "succeeded"
        passed = (self.promotion is None or self.promotion.passed) and not self.unjudged
        locked = self.lock is not None or self.state is not None
        return trained and passed and (self.deployed or not (self.served and locked))

    @property
    def goes_on(self) -> bool:
        """Nothing is wrong: the training is queued or runs, and the next `gitune up` takes it from there."""
        return self.state is not None and self.state.status in ("queued", "running")

    @property
    def new_model(self) -> bool:
        """A model is trained that is not the locked one."""
        state = self.state
        if state is None or state.status != "succeeded":
            return False
        return self.lock is None or self.lock.model_id != state.model_id

    @property
    def standing(self) -> Lock | None:
        """The lock, where it already rested on the evidence that the trained model would be judged by."""
        state, lock = self.state, self.lock
        judged_now = self.promotion is not None or self.unjudged or state is None or state.status != "succeeded"
        return None if judged_now or lock is None or state is None or lock.model_id != state.model_id else lock

    def as_dict(self) -> dict[str, Any]:
        """What `gitune up --json` prints of it."""
        verdict, reasons = self._judgement()
        return {
            "agent": self.spec.name,
            "alias": self.spec.alias,
            "settled": self.settled,
            "goes_on": self.goes_on,
            "new_model": self.new_model,
            "model": self.state.outputs() if self.state else None,
            "version": self.lock.version if self.lock else None,
            "verdict": verdict,
            "reasons": reasons,
            "regressions": [asdict(one) for one in self.promotion.verdict.regressions] if self.promotion else [],
            "deployed": self.deployed,
            "taken_back": asdict(self.refusal) if self.refusal else None,
            "changes": [change.as_dict() for change in self.changes],
        }

    def _judgement(self) -> tuple[str | None, list[str]]:
        """The verdict of now, or else the one that stands in the lock; with its reasons."""
        if self.promotion is not None:
            return self.promotion.verdict.outcome, list(self.promotion.verdict.reasons)
        if self.standing is not None:
            return self.standing.verdict["outcome"], list(self.standing.verdict["reasons"])
        return None, [self.unjudged] if self.unjudged else []
