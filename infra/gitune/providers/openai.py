"""Fine-tuning by OpenAI's protocol: OpenAI itself, Azure OpenAI, Nebius and whatever else speaks it.

The training key travels as the job's `metadata` (gitune_key), and its first 16 digits as the `suffix`, which some
servers limit to 18 characters. A job whose server keeps no metadata is found by the suffix, where the server shows it,
else by the name of the finished model; until then only the clone that submitted it finds it. Servers in Go leave out
what is null, or write it as "" and 0, and 64-bit numbers as text. LLMariner reads no hyperparameters from `method`.
OpenAI itself takes no jobs of new organisations since 2026-05-07, and no new jobs at all after 2027-01-06.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from gitune.dataset.upload import upload_files
from gitune.errors import NotFound, Problem, ProviderError, QuotaExceeded, Rejected, Unauthorized, Unavailable
from gitune.files import write_atomic
from gitune.hashing import sha256
from gitune.hints import did_you_mean, one_of
from gitune.prices import TokenPrice, Tokens, find_price, token_cost
from gitune.providers.base import (
    Estimate,
    HttpTarget,
    Job,
    JobStatus,
    ListedJob,
    Model,
    TrainingDefaults,
    TrainingKey,
    TrainingRequest,
    latest_attempt,
    short,
)
from gitune.providers.lines import told_at
from gitune.providers.settings import HttpSettings
from gitune.providers.submissions import Submissions
from gitune.providers.wire import api_key, error_of_status, one_line, quota_kind, retry_after_seconds, tls

KEY_VARIABLE, URL_VARIABLE = "OPENAI_API_KEY", "OPENAI_BASE_URL"
DEFAULT_URL = "https://api.openai.com/v1"
METADATA_KEY = "gitune_key"
_PAGE = 100
_MOST_JOBS = 5_000
_MOST_EVENTS = 10_000
_STATUS: Mapping[str, JobStatus] = {
    "validating_files": "running",
    "queued": "queued",
    "running": "running",
    "paused": "running",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
    # LLMariner's and older Azure's own words
    "creating": "queued",
    "pending": "queued",
    "canceling": "cancelled",
    "canceled": "cancelled",
}
_THEIR_FAULT = frozenset({"server_error", "internal_error", "unknown_error"})
# FineTuneSupervisedHyperparameters of OpenAI's OpenAPI document; each may also be "auto".
_HYPERPARAMETERS: Mapping[str, tuple[float, float, type, str]] = {
    "n_epochs": (1, 50, int, "a whole number from 1 to 50"),
    "batch_size": (1, 256, int, "a whole number from 1 to 256"),
    "learning_rate_multiplier": (1e-12, 1e6, float, "a number above 0"),
}


class OpenAIProvider:
    """Jobs and models of the project that the API key belongs to."""

    name: ClassVar[str] = "openai"
    defaults: ClassVar[TrainingDefaults] = TrainingDefaults("gpt-4o-mini-2024-07-18", {"n_epochs": 3})
    settings: ClassVar[type[HttpSettings]] = HttpSettings

    def __init__(self, settings: HttpSettings, root: Path) -> None:
        self._settings = settings
        self._url = settings.base_url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
        self._key_variable = settings.key_variable or KEY_VARIABLE
        self._submissions = Submissions(root, self.name)
        self._archived = root / ".gitune" / "archived" / self.name

    def check(self, request: TrainingRequest) -> list[Problem]:
        problems = []
        for name, value in request.hyperparameters.items():
            if name not in _HYPERPARAMETERS:
                hint = did_you_mean(name, _HYPERPARAMETERS) or one_of(list(_HYPERPARAMETERS))
                problems.append(Problem(name, 0, f"unknown hyperparameter '{name}'", hint))
                continue
            least, most, kind, words = _HYPERPARAMETERS[name]
            number = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
            if value != "auto" and not (number and least <= value <= most):
                shown = json.dumps(value, default=str)
                problems.append(Problem(name, 0, f'{name} must be {words}, or "auto", not {shown}'))
        return problems

    def estimate(self, request: TrainingRequest, tokens: Tokens | None = None) -> Estimate:
        price, epochs = self._price(request.base_model), request.hyperparameters.get("n_epochs")
        if price is None or not isinstance(epochs, int):  # how many "auto" are, only the vendor knows
            return Estimate(usd=None, minutes=None)
        return Estimate(usd=token_cost(price, tokens, (epochs, epochs, epochs)), minutes=None)

    def find_job(self, key: TrainingKey) -> Job | None:
        return self.list_jobs([key]).get(key)

    def list_jobs(self, keys: Collection[TrainingKey]) -> Mapping[TrainingKey, Job]:
        wanted = {short(key): key for key in keys}
        with self._client() as client:
            listed: dict[TrainingKey, list[Any]] = {}
            for found in self._listed(client, next(iter(keys)) if len(keys) == 1 else None):
                key = _key_of(found, wanted)
                if key is not None:
                    listed.setdefault(key, []).append(found)
            for key in keys:
                self._add_unlisted(client, key, listed)
            jobs = {key: latest_attempt(self._job(key, item) for item in items) for key, items in listed.items()}
            return {key: job for key, job in jobs.items() if job is not None}

    def all_jobs(self) -> Sequence[ListedJob]:
        with self._client() as client:
            return [_listed_job(found) for found in self._listed(client, None)]

    def submit_job(self, request: TrainingRequest, dataset: Path) -> Job:
        def submit() -> Job:
            upload = upload_files(dataset, self.name)
            with self._client() as client:
                files = {"training_file": self._uploaded(client, upload.train, upload.train_sha256)}
                if upload.validation is not None:
                    name = str(upload.validation_sha256)
                    files["validation_file"] = self._uploaded(client, upload.validation, name)
                return self._job(request.key, self._create(client, request, files))

        return self._submissions.submit_once(request.key, lambda: self.find_job(request.key), submit)

    def job_log(self, job_id: str) -> Sequence[str]:
        """The job's events, metrics among them; servers of the protocol tell more or less of them."""
        with self._client() as client:
            client.fine_tuning.jobs.retrieve(job_id)  # some servers answer for any ID with no events
            listed = client.fine_tuning.jobs.list_events(job_id, limit=_PAGE)
            oldest_first = list(itertools.islice(listed, _MOST_EVENTS))[::-1]
            events = sorted(oldest_first, key=lambda event: _seconds(event, "created_at") or 0.0)
            return [told_at(_seconds(event, "created_at") or 0.0, _event_line(event)) for event in events]

    def cancel_job(self, job_id: str) -> None:
        with self._client() as client:
            job = client.fine_tuning.jobs.retrieve(job_id)
            if _STATUS.get(job.status, "unknown") in ("queued", "running", "unknown"):
                client.fine_tuning.jobs.cancel(job_id)

    def get_model(self, model_id: str) -> Model | None:
        try:
            with self._client() as client:
                found = client.models.retrieve(model_id)
                base = _base_in_name(found.id) or self._base_of_job(client, found.id)
                return Model(found.id, base, self._note(model_id).exists(), {"owned_by": _told(found, "owned_by")})
        except NotFound:
            return None

    def archive_model(self, model_id: str) -> None:
        """The protocol can only delete, which gitune never does: a note in .gitune/archived of this clone."""
        if self.get_model(model_id) is None:
            raise NotFound(f"{self._url} has no model '{model_id}'")
        write_atomic(self._note(model_id), f"{model_id}\n")

    def chat_target(self, model_id: str) -> HttpTarget:
        model = self.get_model(model_id)
        if model is None:
            raise NotFound(f"{self._url} has no model '{model_id}'")
        return HttpTarget("openai", self._url, model_id, model.base_model, self._key_variable)

    def _listed(self, client: Any, key: TrainingKey | None) -> list[Any]:
        """Jobs from the oldest. Servers that do not know the filter answer with all, which is why keys are compared."""
        query = {"metadata": {METADATA_KEY: key}} if key else {}
        found: list[Any] = []
        for job in client.fine_tuning.jobs.list(limit=_PAGE, **query):
            found.append(job)
            if len(found) >= _MOST_JOBS:
                break
        return sorted(found, key=lambda job: _seconds(job, "created_at") or 0.0)

    def _add_unlisted(self, client: Any, key: TrainingKey, listed: dict[TrainingKey, list[Any]]) -> None:
        """The job that this clone submitted, when no list shows it yet."""
        job_id = self._submissions.job_id(key)
        if job_id is None or any(item.id == job_id for item in listed.get(key, ())):
            return
        with contextlib.suppress(NotFound), mapped_errors():
            listed.setdefault(key, []).append(client.fine_tuning.jobs.retrieve(job_id))

    def _uploaded(self, client: Any, content: bytes, digest: str) -> str:
        """The ID of the file with this content, which is sent only if nobody has yet."""
        name = f"gitune-{digest[:32]}.jsonl"
        for known in client.files.list(purpose="fine-tune"):
            same = known.filename == name and int(known.bytes) == len(content)
            if same and _told(known, "status") != "error":
                return str(known.id)
        return str(client.files.create(file=(name, content), purpose="fine-tune").id)

    def _create(self, client: Any, request: TrainingRequest, files: Mapping[str, str]) -> Any:
        values = {name: value for name, value in request.hyperparameters.items() if value is not None}
        return client.fine_tuning.jobs.create(
            model=request.base_model,
            method={"type": "supervised", "supervised": {"hyperparameters": values}},
            suffix=short(request.key),
            metadata={METADATA_KEY: str(request.key), "gitune_fingerprint": request.fingerprint},
            **files,
        )

    def _job(self, key: TrainingKey, said: Any) -> Job:
        status, model_id = _STATUS.get(said.status, "unknown"), _told(said, "fine_tuned_model")
        if status == "succeeded" and not model_id:
            status = "running"  # the model is being registered
        ended = status in ("succeeded", "failed", "cancelled")
        began, finish, finished = (_seconds(said, at) for at in ("created_at", "estimated_finish", "finished_at"))
        return Job(
            key,
            said.id,
            status,
            model_id=model_id if status == "succeeded" else None,
            error=_failure(_told(said, "error")) if status == "failed" else None,
            eta_seconds=None if ended or finish is None else max(0.0, finish - time.time()),
            seconds=finished - began if ended and finished and began else None,
            cost_usd=self._cost(said) if ended else None,
            detail=str(said.status).replace("_", " "),
        )

    def _cost(self, said: Any) -> float | None:
        """The tokens that were billed, at the table's price; the protocol tells no sum."""
        price, tokens = self._price(said.model), _told(said, "trained_tokens")
        if price is None or tokens is None:
            return None
        return float(max(int(tokens) * price.usd_per_million_tokens[1] / 1e6, price.minimum_usd))

    def _price(self, base_model: str) -> TokenPrice | None:
        price = find_price(self.name, base_model, self._settings.prices)
        return price if isinstance(price, TokenPrice) else None

    def _base_of_job(self, client: Any, model_id: str) -> str:
        """For servers whose model IDs do not name the base model."""
        trained = (job.model for job in self._listed(client, None) if _told(job, "fine_tuned_model") == model_id)
        return str(next(trained, model_id))

    def _note(self, model_id: str) -> Path:
        return self._archived / sha256([self._url, model_id])[:32]

    @contextlib.contextmanager
    def _client(self) -> Iterator[Any]:
        """The SDK without its own retries: a repeated submission could be paid for twice."""
        key = api_key(self._key_variable, self.name)
        try:
            import openai
        except ImportError:
            raise Unauthorized("openai needs its SDK", hint="pip install 'gitune[openai]'") from None
        seconds = self._settings.timeout_seconds
        http = openai.DefaultHttpxClient(verify=tls())
        with (
            mapped_errors(),
            openai.OpenAI(api_key=key, base_url=self._url, timeout=seconds, max_retries=0, http_client=http) as client,
        ):
            yield client


@contextlib.contextmanager
def mapped_errors() -> Iterator[None]:
    """What the SDK raises, as gitune's errors. Causes are dropped: they hold the request's headers."""
    import openai

    try:
        yield
    except openai.APIStatusError as error:
        after = retry_after_seconds(error.response.headers.get("retry-after"))
        raise error_of_status(error.status_code, _words(error), retry_after=after) from None
    except openai.APIError as error:
        raise Unavailable(f"openai: no answer ({type(error).__name__})") from None
    except (ValueError, TypeError, AttributeError):
        raise Unavailable("openai: an answer that is not the protocol's") from None


def _words(error: Any) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    code = f"{body['code']}: " if body.get("code") and not str(body["code"]).isdigit() else ""
    return one_line(f"{code}{body.get('message') or error.message}")


def _key_of(said: Any, wanted: Mapping[str, TrainingKey]) -> TrainingKey | None:
    """Which key a job carries, of those wanted, which are named by their first digits."""
    told = (_told(said, "metadata") or {}).get(METADATA_KEY)
    if told:
        key = wanted.get(short(told))
        return key if key == told else None
    shown = str(_told(said, "user_provided_suffix") or _told(said, "fine_tuned_model"))
    found = (wanted.get(digits) for digits in re.findall(r"[0-9a-f]{16}", shown))
    return next((key for key in found if key), None)


def _listed_job(said: Any) -> ListedJob:
    told = (_told(said, "metadata") or {}).get(METADATA_KEY)
    suffix = re.fullmatch(r"[0-9a-f]{16}", str(_told(said, "user_provided_suffix")))
    key = short(told) if told else suffix[0] if suffix else None
    return ListedJob(said.id, _STATUS.get(said.status, "unknown"), key)


def _failure(said: Any) -> ProviderError:
    code, message = _told(said, "code"), _told(said, "message")
    words = one_line(": ".join(str(part) for part in (code, message) if part))
    if not words:
        return ProviderError("the job failed, and the provider gives no reason", hint="run: gitune up --retry")
    kind = quota_kind(words)
    if kind:
        return QuotaExceeded(words, kind=kind)
    if code in _THEIR_FAULT:
        return ProviderError(words, hint="run: gitune up --retry")
    return Rejected(words, hint="mend the data or the hyperparameters")


def _event_line(event: Any) -> str:
    level = _told(event, "level")
    return one_line(f"{'' if level in (None, 'info') else f'{level}: '}{_told(event, 'message') or ''}")


def _told(said: Any, name: str) -> Any:
    """A field that a server may leave out, or fill with nothing: "", 0."""
    return getattr(said, name, None) or None


def _seconds(said: Any, name: str) -> float | None:
    value = _told(said, name)
    return None if value is None else float(value) or None


def _base_in_name(model_id: str) -> str | None:
    """The base model of "ft:<base>:<organisation>:<suffix>:<id>"."""
    parts = model_id.split(":")
    return parts[1] if parts[0] == "ft" and len(parts) >= 4 else None
