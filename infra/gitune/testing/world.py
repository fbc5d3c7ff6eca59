"""What the author of a provider supplies, so that the conformance suite can put it to the test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from gitune.providers.base import Job, Provider, TrainingRequest


@dataclass(frozen=True, slots=True)
class Fault:
    """How the wire misbehaves, once."""

    kind: Literal["status", "slow", "cut", "malformed", "lost"]
    """status: an error answer; slow: none before the client's time-out; cut: the connection ends within the answer;
    malformed: success with a body that is not the protocol's; lost: the request is carried out, its answer is not sent.
    """
    status: int = 0
    message: str = "planted by the test"
    retry_after: int | None = None
    """Seconds, sent as Retry-After."""


class World(Protocol):
    """A provider's server, as a test sees and moves it. One for each test."""

    secrets: Sequence[str]
    """Credentials that the provider uses here; planted, so that a leak is found."""
    has_wire: bool
    """Whether the provider is reached over a network. Without, tests of faults are skipped."""
    root: Path
    """The repository that `provider` works in."""

    def provider(self) -> Provider:
        """As a new process in this clone opens it."""
        ...

    def second_clone(self) -> Provider:
        """As somebody else opens it who shares the account and nothing else; the same where there is no sharing."""
        ...

    def without_credentials(self) -> Provider | None:
        """With no credential in the environment; None where none is needed."""
        ...

    def request(self, number: int = 0) -> TrainingRequest:
        """A training that succeeds; another one for each number. All of the same dataset and base model."""
        ...

    def refused_request(self) -> TrainingRequest:
        """One that `check` must refuse."""
        ...

    def dataset(self) -> Path:
        """The folder of the dataset that the requests are about: train.jsonl, validation.jsonl."""
        ...

    def finish(self, job: Job) -> None:
        """Time passes until the job has ended."""
        ...

    def calls(self) -> int:
        """Requests that reached the server so far."""
        ...

    def jobs(self) -> int:
        """Jobs that the server has accepted so far: what somebody pays for."""
        ...

    def uploads(self) -> int | None:
        """Files that the server has received so far; None where nothing is uploaded."""
        ...

    def plant(self, fault: Fault, *, on: Literal["any", "submit"] = "any") -> None:
        """The next request, or the next that submits a job, meets this fault."""
        ...

    def accept_then_fail(self, message: str) -> None:
        """The next job is accepted and fails with these words."""
        ...

    def lag_lists(self) -> None:
        """Jobs that are accepted from now on are not listed, until `lists_catch_up`."""
        ...

    def lists_catch_up(self) -> None: ...

    def say_status(self, job: Job, word: str) -> None:
        """The server calls the job's status by a word that no client knows yet."""
        ...
