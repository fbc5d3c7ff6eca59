"""Training on Hugging Face Jobs: gitune's own training script on a hardware flavour, billed by the minute.

    <namespace>/gitune-datasets          a private dataset repository, mounted into every job: the data and the scripts,
                                         named by their content, so each is sent once
    <namespace>/gitune-<short key>       a private model repository: the adapter, training.json, outcome.json

Submitting runs training/hub_job.py in a job with the label gitune-key=<training key>, by which everybody finds it. The
model ID is the name of the model repository. Answers come from the adapter on this machine: it is downloaded once into
.gitune/models, whole or not at all, and needs no network after that.

Protocol: https://huggingface.co/docs/hub/jobs-configuration (labels, volumes, JOB_ID, time-out),
https://huggingface.co/docs/hub/jobs-pricing.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from pydantic import Field

from gitune.dataset.upload import upload_files
from gitune.errors import NotFound, Problem, ProviderError, QuotaExceeded, Rejected
from gitune.files import locked, read_json
from gitune.prices import HourPrice, Tokens, find_price, gpu_minutes, hour_cost
from gitune.providers.base import (
    Estimate,
    Job,
    JobStatus,
    ListedJob,
    LocalTarget,
    Model,
    TrainingDefaults,
    TrainingKey,
    TrainingRequest,
    latest_attempt,
    short,
)
from gitune.providers.hub import BILLING, Hub, sdk_errors
from gitune.providers.settings import HttpSettings
from gitune.providers.submissions import Submissions
from gitune.providers.wire import quota_kind
from gitune.training import hub_job, sft
from gitune.training.sft import check_hyperparameters, default_hyperparameters

_DATASETS = "gitune-datasets"
_OURS = {"gitune": "training"}
_KEY_LABEL = "gitune-key"
_ARCHIVED = "gitune-archived"
_MOUNT = "/gitune"
_DOWNLOAD_SECONDS = 1800.0  # patience with another process that downloads the same adapter
_MOST_LISTED = 10_000
_STATUS: Mapping[str, JobStatus] = MappingProxyType(
    {
        "SCHEDULING": "queued",
        "RUNNING": "running",
        "COMPLETED": "succeeded",
        "CANCELED": "cancelled",
        "DELETED": "cancelled",
        "ERROR": "failed",
    }
)
_ENDED = frozenset({"COMPLETED", "CANCELED", "ERROR", "DELETED"})
_UNITS_PER_HOUR: Mapping[str, int] = MappingProxyType({"second": 3600, "minute": 60, "hour": 1})


class HuggingFaceSettings(HttpSettings):
    """The stack's block; `base_url` is the Hub's endpoint (HF_ENDPOINT), `key_variable` holds the token (HF_TOKEN)."""

    namespace: Annotated[
        str | None,
        Field(pattern=r"^[A-Za-z0-9][\w.-]*$", description="User or organization; left out: the token's."),
    ] = None
    flavor: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="Hardware: hf jobs hardware.")] = (
        "a10g-large"
    )
    timeout: Annotated[
        str,
        Field(pattern=r"^[1-9]\d*(\.\d+)?[smhd]$", description="A job that takes longer is stopped and its work lost."),
    ] = "6h"
    private: Annotated[bool, Field(description="Whether the repositories are.")] = True


class HuggingFaceProvider:
    """Jobs and repositories of one namespace on the Hub."""

    name: ClassVar[str] = "huggingface"
    # Llama-3.1-8B is gated: its licence is accepted once on its page. In bf16 it takes 16 of the flavour's 24 GB, and
    # more than the 15 GB of memory that a10g-small has to load it.
    defaults: ClassVar[TrainingDefaults] = TrainingDefaults(
        "meta-llama/Llama-3.1-8B",
        {
            **default_hyperparameters(),
            "learning_rate": 2e-4,
            "lora_layers": None,
            "batch_size": 2,
            "gradient_accumulation": 4,
            "gradient_checkpointing": True,
        },
    )
    settings: ClassVar[type[HuggingFaceSettings]] = HuggingFaceSettings

    def __init__(self, settings: HuggingFaceSettings, root: Path) -> None:
        self._settings = settings
        self._hub = Hub(settings.base_url, settings.key_variable or "HF_TOKEN", settings.timeout_seconds)
        self._models = root / ".gitune" / "models"
        self._submissions = Submissions(root, self.name)

    def check(self, request: TrainingRequest) -> list[Problem]:
        wrong = check_hyperparameters(request.hyperparameters)
        problems = [Problem(name, 0, message) for name, message in wrong.items()]
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", request.base_model):
            message = f"'{request.base_model}' is not a model on the Hub"
            problems.append(Problem("base_model", 0, message, hint="owner/name, such as meta-llama/Llama-3.1-8B"))
        return problems

    def estimate(self, request: TrainingRequest, tokens: Tokens | None = None) -> Estimate:
        """The flavour's price, live where the Hub answers, by the time that its peak and the model's size tell."""
        flavor = self._settings.flavor
        price = find_price(self.name, flavor, self._settings.prices)
        if not isinstance(price, HourPrice):
            return Estimate(usd=None, minutes=None)
        with contextlib.suppress(ProviderError):
            if flavor not in self._settings.prices and flavor in self._hardware_prices:
                price = price.model_copy(update={"usd_per_hour": self._hardware_prices[flavor]})
        minutes = gpu_minutes(price, tokens, float(request.hyperparameters["epochs"]), request.base_model)
        return Estimate(usd=hour_cost(price, minutes), minutes=minutes)

    def find_job(self, key: TrainingKey) -> Job | None:
        """The job with this key, else the model: the Hub forgets jobs sooner than repositories."""
        with sdk_errors():
            infos = self._infos({_KEY_LABEL: key}, [key])
            return self._latest(key, infos[key]) if key in infos else self._adopted(key)

    def submit_job(self, request: TrainingRequest, dataset: Path) -> Job:
        key = request.key
        found = self.find_job(key)
        if found is not None and (found.live or found.status == "succeeded"):
            return found
        files = _job_files(dataset)
        with sdk_errors():
            self._hub.check_access(request.base_model)
            self._hub.add_files(self._datasets, dict(files.values()), private=self._settings.private)
        names = {what: name for what, (name, _) in files.items()}
        return self._submissions.submit_once(key, lambda: self.find_job(key), lambda: self._run(request, names))

    def list_jobs(self, keys: Collection[TrainingKey]) -> Mapping[TrainingKey, Job]:
        with sdk_errors():
            infos = self._infos(_OURS, keys)
            return {key: job for key in infos if (job := self._latest(key, infos[key])) is not None}

    def all_jobs(self) -> Sequence[ListedJob]:
        """All of the namespace, of whatever kind. A failed one may have left a good adapter: a list cannot tell."""
        with sdk_errors():
            return [_listed_job(info) for info in self._listed({})]

    def job_log(self, job_id: str) -> Sequence[str]:
        """The container's output. Of a job that runs it takes some seconds, until the Hub has no more to say."""
        with sdk_errors():
            api = self._hub.api()
            api.inspect_job(job_id=job_id, namespace=self._namespace)  # fetch_job_logs would wait for what is not there
            return list(api.fetch_job_logs(job_id=job_id, namespace=self._namespace))

    def cancel_job(self, job_id: str) -> None:
        with sdk_errors():
            api = self._hub.api()
            info = api.inspect_job(job_id=job_id, namespace=self._namespace)
            if info.status.stage not in _ENDED:
                api.cancel_job(job_id=job_id, namespace=self._namespace)

    def get_model(self, model_id: str) -> Model | None:
        with sdk_errors():
            facts = self._hub.read_json(model_id, "training.json")
            if facts is None:
                return None
            tags = self._hub.api().list_repo_refs(model_id).tags
            return Model(model_id, facts["base_model"], any(tag.name == _ARCHIVED for tag in tags), facts)

    def archive_model(self, model_id: str) -> None:
        """Tag the repository `gitune-archived`: the Hub has no archive. Nothing is deleted."""
        if self.get_model(model_id) is None:
            raise NotFound(f"no model '{model_id}' on the Hub")
        with sdk_errors():
            self._hub.api().create_tag(model_id, tag=_ARCHIVED, exist_ok=True)

    def chat_target(self, model_id: str) -> LocalTarget:
        """The adapter on this machine, downloaded unless it is there; the base model is the caller's to load."""
        folder = self._models / model_id.replace("/", "--")
        with sdk_errors(), locked(folder.with_name(f"{folder.name}.lock"), wait_seconds=_DOWNLOAD_SECONDS):
            if not folder.is_dir():
                if self.get_model(model_id) is None:
                    raise NotFound(f"no model '{model_id}' on the Hub")
                self._hub.download(model_id, folder)
        return LocalTarget(read_json(folder / "training.json")["base_model"], folder)

    def hardware_prices(self) -> Mapping[str, float]:
        """US dollars an hour by flavour, as the Hub asks now; flavours with a unit nobody knows are left out."""
        with sdk_errors():
            hardware = self._hub.api().list_jobs_hardware()
            known = [item for item in hardware if item.unit_label in _UNITS_PER_HOUR]
            return {item.name: item.unit_cost_usd * _UNITS_PER_HOUR[item.unit_label] for item in known}

    # --- finding

    def _infos(self, labels: Mapping[str, str], keys: Collection[TrainingKey]) -> dict[TrainingKey, list[Any]]:
        """The jobs that carry these keys: those listed, and those that this clone submitted and the list lacks."""
        found: dict[TrainingKey, list[Any]] = {}
        for info in self._listed(labels):
            key = TrainingKey((info.labels or {}).get(_KEY_LABEL, ""))
            if key in keys:
                found.setdefault(key, []).append(info)
        for key in keys:
            noted = self._submissions.job_id(key)
            if noted is not None and all(info.id != noted for info in found.get(key, ())):
                with contextlib.suppress(NotFound), sdk_errors():
                    info = self._hub.api().inspect_job(job_id=noted, namespace=self._namespace)
                    found.setdefault(key, []).append(info)
        return found

    def _listed(self, labels: Mapping[str, str]) -> Iterator[Any]:
        from huggingface_hub import JobInfo

        api = self._hub.api()
        filters = [("label", f"{name}={value}") for name, value in labels.items()]
        items = self._hub.pages(f"{api.endpoint}/api/jobs/{self._namespace}", filters)
        for item in itertools.islice(items, _MOST_LISTED):
            yield JobInfo(**item, endpoint=api.endpoint)

    def _latest(self, key: TrainingKey, infos: Iterable[Any]) -> Job | None:
        return latest_attempt(self._job(key, info) for info in sorted(infos, key=lambda info: str(info.created_at)))

    def _job(self, key: TrainingKey, info: Any) -> Job:
        stage, message = info.status.stage, info.status.message or ""
        facts: dict[str, Any] = {"detail": message or stage.lower(), "seconds": _seconds(info)}
        if stage in _ENDED:
            facts["cost_usd"] = self._cost(info)
        match stage:
            case "SCHEDULING":
                return Job(key, info.id, "queued", **facts)
            case "RUNNING":
                return Job(key, info.id, "running", **facts)
            case "COMPLETED":
                return Job(key, info.id, "succeeded", model_id=self._repository(key), **facts)
            case "CANCELED" | "DELETED":
                return Job(key, info.id, "cancelled", **facts)
            case "ERROR":
                outcome = self._hub.read_json(self._repository(key), hub_job.OUTCOME) or {}
                told = outcome if outcome.get("job_id") == info.id else {}
                if told.get("status") == "succeeded":  # the adapter is there; what failed came after it
                    return Job(key, info.id, "succeeded", model_id=self._repository(key), **facts)
                return Job(key, info.id, "failed", error=_failure(told, message, info.url), **facts)
        return Job(key, info.id, "unknown", **facts)

    def _adopted(self, key: TrainingKey) -> Job | None:
        outcome = self._hub.read_json(self._repository(key), hub_job.OUTCOME)
        if outcome is None or outcome["status"] != "succeeded" or outcome["key"] != key:
            return None
        return Job(key, outcome["job_id"] or short(key), "succeeded", model_id=self._repository(key), detail="adopted")

    def _cost(self, info: Any) -> float | None:
        """Every minute begun, at today's price; None where the Hub does not tell both."""
        seconds = _seconds(info)
        if seconds is None:
            return None
        with contextlib.suppress(ProviderError):
            price = self._hardware_prices.get(info.flavor)
            return None if price is None else round(math.ceil(seconds / 60) * price / 60, 4)
        return None

    # --- submitting

    def _run(self, request: TrainingRequest, names: Mapping[str, str]) -> Job:
        from huggingface_hub import Volume

        api, key = self._hub.api(), request.key
        config = {
            "key": key,
            "base_model": request.base_model,
            "method": request.method,
            "hyperparameters": dict(request.hyperparameters),
            "fingerprint": request.fingerprint,
        }
        with sdk_errors():
            info = api.run_job(
                image="ghcr.io/astral-sh/uv:python3.12-bookworm",
                command=["uv", "run", f"{_MOUNT}/{names['hub_job']}", *self._arguments(key, names)],
                env={"GITUNE_CONFIG": json.dumps(config), "HF_ENDPOINT": api.endpoint},
                secrets={"HF_TOKEN": self._hub.token()},
                flavor=self._settings.flavor,
                timeout=self._settings.timeout,
                name=f"gitune-{short(key)}",
                labels={**_OURS, _KEY_LABEL: key},
                volumes=[Volume(type="dataset", source=self._datasets, mount_path=_MOUNT)],
                namespace=self._namespace,
            )
            return self._job(key, info)

    def _arguments(self, key: TrainingKey, names: Mapping[str, str]) -> Sequence[str]:
        arguments = ["--repository", self._repository(key), "--script", f"{_MOUNT}/{names['sft']}"]
        for what in ("train", "validation"):
            if what in names:
                arguments += [f"--{what}", f"{_MOUNT}/{names[what]}"]
        return arguments if self._settings.private else [*arguments, "--public"]

    # --- the account

    def _repository(self, key: TrainingKey) -> str:
        return f"{self._namespace}/gitune-{short(key)}"

    @property
    def _datasets(self) -> str:
        return f"{self._namespace}/{_DATASETS}"

    @functools.cached_property
    def _namespace(self) -> str:
        return self._settings.namespace or self._hub.account()

    @functools.cached_property
    def _hardware_prices(self) -> Mapping[str, float]:
        return self.hardware_prices()


def _job_files(dataset: Path) -> dict[str, tuple[str, bytes]]:
    """What every job reads: file name and content, by what it is. Raises Rejected."""
    upload = upload_files(dataset, HuggingFaceProvider.name)
    files = {"train": _named("gitune", "jsonl", upload.train)}
    if upload.validation is not None:
        files["validation"] = _named("gitune", "jsonl", upload.validation)
    for module in (hub_job, sft):
        script = Path(str(module.__file__))
        files[script.stem] = _named(script.stem, "py", script.read_bytes())
    return files


def _named(stem: str, suffix: str, data: bytes) -> tuple[str, bytes]:
    return f"{stem}-{hashlib.sha256(data).hexdigest()[:32]}.{suffix}", data


def _listed_job(info: Any) -> ListedJob:
    key = (info.labels or {}).get(_KEY_LABEL)
    return ListedJob(info.id, _STATUS.get(info.status.stage, "unknown"), short(key) if key else None)


def _seconds(info: Any) -> float | None:
    if info.durations is not None and info.durations.running_secs is not None:
        return float(info.durations.running_secs)
    if info.started_at is None or info.finished_at is None:
        return None
    return float((info.finished_at - info.started_at).total_seconds())


def _failure(outcome: Mapping[str, Any], message: str, url: str) -> ProviderError:
    """Why a job failed: in its own words where it got to say them, else in the Hub's."""
    if outcome.get("status") == "rejected":
        return Rejected(outcome["message"], hint="mend agent.yaml or the data")
    kind = quota_kind(message)
    if kind is not None:
        return QuotaExceeded(message, kind=kind, hint=BILLING if kind == "lifetime" else None)
    if "timeout" in message.lower():
        return ProviderError(message, hint="set a longer `timeout` for huggingface in the stack; nothing was kept")
    return ProviderError(outcome.get("message") or message or "the job failed", hint=f"read {url}")
