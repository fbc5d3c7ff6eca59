"""What gitune asks of a provider: nine calls, synchronous, prompt, and safe to repeat."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NewType, Protocol, runtime_checkable

from gitune.errors import Problem, ProviderError
from gitune.hashing import canonical_json, sha256
from gitune.prices import Range, Tokens
from gitune.providers.settings import ProviderSettings

TrainingKey = NewType("TrainingKey", str)
"""Hex SHA-256 over everything that decides a training. It travels with the job."""

JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled", "lost", "unknown"]
"""`lost`: started and then killed without an end; `unknown`: a word that the provider added later."""

LIVE: frozenset[JobStatus] = frozenset({"queued", "running", "unknown"})


@dataclass(frozen=True, slots=True)
class TrainingDefaults:
    """What a provider takes where agent.yaml is silent. A change here changes training keys: name it in CHANGELOG."""

    base_model: str
    hyperparameters: Mapping[str, Any]


@dataclass(frozen=True)  # no slots: the key is kept
class TrainingRequest:
    """Everything that decides a training, defaults filled in."""

    provider: str
    base_model: str
    method: str
    hyperparameters: Mapping[str, Any]
    fingerprint: str

    @functools.cached_property
    def key(self) -> TrainingKey:
        """Computed once: a round over ten thousand agents asks for it a hundred thousand times."""
        decides = [self.fingerprint, self.provider, self.base_model, self.method]
        return TrainingKey(sha256([*decides, canonical_json(dict(self.hyperparameters))]))

    def recorded(self) -> dict[str, str]:
        """For the engine's state. Hyperparameters are JSON text there: the engine makes 3 into 3.0 and drops null."""
        return {
            "provider": self.provider,
            "base_model": self.base_model,
            "method": self.method,
            "hyperparameters": canonical_json(dict(self.hyperparameters)),
            "key": self.key,
        }

    @classmethod
    def from_recorded(cls, recorded: Mapping[str, str], fingerprint: str) -> TrainingRequest:
        """The inverse of `recorded`."""
        hyperparameters = json.loads(recorded["hyperparameters"])
        return cls(recorded["provider"], recorded["base_model"], recorded["method"], hyperparameters, fingerprint)


def short(key: str) -> str:
    """The first 16 hex digits (64 bits): fits Mistral's 18 characters, and 10,000 keys collide once in 10^11 times."""
    return key[:16]


@dataclass(frozen=True, slots=True)
class Estimate:
    """US dollars and minutes, low / expected / high. None is unknown, never 0."""

    usd: Range | None
    minutes: Range | None


@dataclass(frozen=True, slots=True)
class Job:
    """One provider's fine-tuning run as it stands now."""

    key: TrainingKey
    job_id: str
    status: JobStatus
    model_id: str | None = None
    error: ProviderError | None = None
    """Why a failed job failed. A QuotaExceeded here is a limit that answered late, not a failed training."""
    progress: float | None = None
    """Share done, 0 to 1."""
    eta_seconds: float | None = None
    seconds: float | None = None
    """Time that it has run, start to now or to its end."""
    cost_usd: float | None = None
    detail: str = ""
    """What it is doing, in a few words."""

    @property
    def live(self) -> bool:
        return self.status in LIVE


@dataclass(frozen=True, slots=True)
class ListedJob:
    """A job of an account, whoever started it, as far as a list tells of it."""

    job_id: str
    status: JobStatus
    key: str | None
    """The first 16 digits of the training key that it carries; None: it carries none of gitune's."""

    @property
    def live(self) -> bool:
        return self.status in LIVE


def latest_attempt(jobs: Iterable[Job]) -> Job | None:
    """Of the jobs of one key, oldest first: the one that runs or succeeded, else the newest."""
    listed = list(jobs)
    useful = [job for job in listed if job.live or job.status == "succeeded"]
    return next(iter((useful or listed)[-1:]), None)


@dataclass(frozen=True, slots=True)
class Model:
    """A tuned model that the provider holds."""

    model_id: str
    base_model: str
    archived: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LocalTarget:
    """Answers come from weights on this machine."""

    base_model: str
    adapter: Path | None


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """Answers come from a server's chat completions; the key is read from this variable, never stored."""

    protocol: Literal["openai", "mistral"]
    """Whose SDK speaks to it."""
    base_url: str
    """As its SDK takes it: https://api.openai.com/v1, https://api.mistral.ai."""
    model: str
    base_model: str
    """Answers as the untuned model, where it is still served."""
    key_variable: str | None


@dataclass(frozen=True, slots=True)
class ConverseTarget:
    """Answers come from Amazon Bedrock's Converse API; credentials are boto3's own."""

    model: str
    """A model ID or the ARN of what serves it."""
    base_model: str
    region: str | None
    endpoint_url: str | None
    """None: boto3's own."""


ChatTarget = LocalTarget | HttpTarget | ConverseTarget


def address(target: ChatTarget) -> str | None:
    """Where the model is asked; None: on this machine, or where boto3 finds Bedrock."""
    if isinstance(target, LocalTarget):
        return None
    return target.endpoint_url if isinstance(target, ConverseTarget) else target.base_url


class Provider(Protocol):
    """One vendor's driver."""

    name: ClassVar[str]
    defaults: ClassVar[TrainingDefaults]
    settings: ClassVar[type[Any]]
    """The class, a ProviderSettings, of its block in a stack."""

    def check(self, request: TrainingRequest) -> list[Problem]:
        """What the provider would refuse, found without a call. `Problem.file` is the hyperparameter's name."""
        ...

    def estimate(self, request: TrainingRequest, tokens: Tokens | None = None) -> Estimate:
        """What the training would cost and take; `tokens` are those of all examples, once."""
        ...

    def find_job(self, key: TrainingKey) -> Job | None:
        """The job that carries this key, whoever started it."""
        ...

    def submit_job(self, request: TrainingRequest, dataset: Path) -> Job:
        """Start the training of `dataset`, a folder with train.jsonl and validation.jsonl; adopt it if it is there."""
        ...

    def list_jobs(self, keys: Collection[TrainingKey]) -> Mapping[TrainingKey, Job]:
        """All of these jobs in one call; a key without a job is left out."""
        ...

    def cancel_job(self, job_id: str) -> None:
        """Stop a live job; an ended one is left alone. Raises NotFound."""
        ...

    def get_model(self, model_id: str) -> Model | None: ...

    def archive_model(self, model_id: str) -> None: ...

    def chat_target(self, model_id: str) -> ChatTarget:
        """How to reach the model. Raises NotFound."""
        ...


@runtime_checkable
class ListsAllJobs(Protocol):
    """What a provider may offer beside the nine calls: then `gitune drift` finds jobs of unknown origin."""

    def all_jobs(self) -> Sequence[ListedJob]:
        """Every job that the account's list shows, in one list, of whatever status."""
        ...


@runtime_checkable
class TellsLogs(Protocol):
    """What a provider may offer beside the nine calls: then `gitune logs` shows what a job says."""

    def job_log(self, job_id: str) -> Sequence[str]:
        """Every line so far of the job's output, or of what the vendor says of it, from the oldest. What was said once
        stays, so that who has read n lines goes on after them. Raises NotFound.
        """
        ...


class ProviderClass(Protocol):
    """What the registry, or an entry point of the group `gitune.providers`, names: mostly the provider's class."""

    @property
    def defaults(self) -> TrainingDefaults: ...

    @property
    def settings(self) -> type[ProviderSettings]: ...

    def __call__(self, settings: Any, root: Path, /) -> Provider:
        """The provider with its block of the stack, in a repository. Calls nobody and needs no credential yet."""
        ...
