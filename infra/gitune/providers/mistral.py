"""Fine-tuning at Mistral, through mistralai 2.5.1, the last release with `client.fine_tuning.jobs`.

The training key's first 16 digits travel as the job's `suffix` (18 characters are allowed), and jobs are listed by it.
Since July 2026 the training API answers 410 Gone; models that exist still answer chat, and can be adopted and archived.
Why a job failed is told by the events of its own page, `GET /v1/fine_tuning/jobs/{id}`; lists do not have them.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from gitune.dataset.upload import upload_files
from gitune.errors import NotFound, Problem, ProviderError, QuotaExceeded, Rejected, Retired, Unauthorized, Unavailable
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

KEY_VARIABLE, URL_VARIABLE = "MISTRAL_API_KEY", "MISTRAL_BASE_URL"
DEFAULT_URL = "https://api.mistral.ai"
_PAGE = 100
_MOST_PAGES = 50
_SHORT_KEY = re.compile(r"[0-9a-f]{16}")
_STATUS: Mapping[str, JobStatus] = {
    "QUEUED": "queued",
    # not "running" yet: a job too many fails in its validation
    "STARTED": "queued",
    "VALIDATING": "queued",
    "VALIDATED": "queued",
    "RUNNING": "running",
    "SUCCESS": "succeeded",
    "FAILED": "failed",
    "FAILED_VALIDATION": "failed",
    "CANCELLED": "cancelled",
    "CANCELLATION_REQUESTED": "cancelled",
}
_USEFUL = ("queued", "running", "succeeded")
# CompletionTrainingParametersIn of Mistral's OpenAPI document: least, most, type, in words.
_HYPERPARAMETERS: Mapping[str, tuple[float, float, type, str]] = {
    "training_steps": (1, math.inf, int, "a whole number above 0"),
    "epochs": (math.ulp(0), math.inf, float, "a number above 0"),
    "learning_rate": (1e-8, 1, float, "a number from 1e-08 to 1"),
    "weight_decay": (0, 1, float, "a number from 0 to 1"),
    "warmup_fraction": (0, 1, float, "a number from 0 to 1"),
    "seq_len": (100, math.inf, int, "a whole number from 100"),
    "fim_ratio": (0, 1, float, "a number from 0 to 1"),
}


class MistralProvider:
    """Jobs and models of the account that the API key belongs to."""

    name: ClassVar[str] = "mistral"
    defaults: ClassVar[TrainingDefaults] = TrainingDefaults("open-mistral-7b", {"epochs": 3, "learning_rate": 1e-4})
    settings: ClassVar[type[HttpSettings]] = HttpSettings

    def __init__(self, settings: HttpSettings, root: Path) -> None:
        self._settings = settings
        self._url = (settings.base_url or os.environ.get(URL_VARIABLE) or DEFAULT_URL).rstrip("/").removesuffix("/v1")
        self._key_variable = settings.key_variable or KEY_VARIABLE
        self._submissions = Submissions(root, self.name)

    def check(self, request: TrainingRequest) -> list[Problem]:
        problems = []
        for name, value in request.hyperparameters.items():
            if name not in _HYPERPARAMETERS:
                hint = did_you_mean(name, _HYPERPARAMETERS) or one_of(list(_HYPERPARAMETERS))
                problems.append(Problem(name, 0, f"unknown hyperparameter '{name}'", hint))
            elif value is not None and not _allowed(name, value):
                shown = json.dumps(value, default=str)
                problems.append(Problem(name, 0, f"{name} must be {_HYPERPARAMETERS[name][3]}, not {shown}"))
        if not any(request.hyperparameters.get(name) for name in ("epochs", "training_steps")):
            problems.append(Problem("epochs", 0, "epochs or training_steps must be given"))
        if not re.fullmatch(r"[\w.:-]+", request.base_model):
            message = f"'{request.base_model}' is not a model of Mistral's"
            problems.append(Problem("base_model", 0, message, hint=f"such as {self.defaults.base_model}"))
        return problems

    def estimate(self, request: TrainingRequest, tokens: Tokens | None = None) -> Estimate:
        price = find_price(self.name, request.base_model, self._settings.prices)
        epochs = request.hyperparameters.get("epochs")
        if not isinstance(price, TokenPrice) or request.hyperparameters.get("training_steps") or epochs is None:
            return Estimate(usd=None, minutes=None)
        return Estimate(usd=token_cost(price, tokens, (epochs, epochs, epochs)), minutes=None)

    def find_job(self, key: TrainingKey) -> Job | None:
        return self.list_jobs([key]).get(key)

    def list_jobs(self, keys: Collection[TrainingKey]) -> Mapping[TrainingKey, Job]:
        wanted = {short(key): key for key in keys}
        with self._training_api() as client:
            listed: dict[TrainingKey, list[Any]] = {}
            for found in self._listed(client, wanted):
                key = wanted.get(found.suffix or "")  # a suffix that was left out is an object of the SDK's, and false
                if key is not None:
                    listed.setdefault(key, []).append(found)
            for key in keys:
                self._add_unlisted(client, key, listed)
            jobs = {key: latest_attempt(_job(key, item) for item in items) for key, items in listed.items()}
            return {key: self._with_reason(client, job) for key, job in jobs.items() if job is not None}

    def all_jobs(self) -> Sequence[ListedJob]:
        with self._training_api() as client:
            return [_listed_job(found) for page in self._pages(client, None) for found in page]

    def submit_job(self, request: TrainingRequest, dataset: Path) -> Job:
        def submit() -> Job:
            upload = upload_files(dataset, self.name)
            with self._training_api() as client:
                train = self._uploaded(client, upload.train, upload.train_sha256)
                held_back = None
                if upload.validation is not None:
                    held_back = self._uploaded(client, upload.validation, str(upload.validation_sha256))
                return _job(request.key, self._create(client, request, train, held_back))

        return self._submissions.submit_once(request.key, lambda: self.find_job(request.key), submit)

    def job_log(self, job_id: str) -> Sequence[str]:
        """The job's events and checkpoints; its output Mistral keeps to itself."""
        with self._training_api() as client:
            said = client.fine_tuning.jobs.get(job_id=job_id)
            told = [(event.created_at, _event_line(event)) for event in reversed(said.events or [])]
            told += [(point.created_at, _checkpoint_line(point)) for point in reversed(said.checkpoints or [])]
            return [told_at(*item) for item in sorted(told, key=lambda item: item[0])]

    def cancel_job(self, job_id: str) -> None:
        with self._training_api() as client:
            job = client.fine_tuning.jobs.get(job_id=job_id)
            if _STATUS.get(job.status, "unknown") in ("queued", "running", "unknown"):
                client.fine_tuning.jobs.cancel(job_id=job_id)

    def get_model(self, model_id: str) -> Model | None:
        try:
            with self._client() as client:
                found = client.models.retrieve(model_id=model_id)
                base = getattr(found, "root", None) or found.id
                facts = {"job": getattr(found, "job", None)}
                return Model(found.id, base, bool(getattr(found, "archived", False)), facts)
        except NotFound:
            return None

    def archive_model(self, model_id: str) -> None:
        with self._client() as client:
            client.models.archive(model_id=model_id)

    def chat_target(self, model_id: str) -> HttpTarget:
        model = self.get_model(model_id)
        if model is None:
            raise NotFound(f"mistral has no model '{model_id}'")
        return HttpTarget("mistral", self._url, model_id, model.base_model, self._key_variable)

    def _listed(self, client: Any, wanted: Collection[str]) -> list[Any]:
        """Jobs with these suffixes from the oldest; those of other kinds (classifiers) are not ours.

        The newest come first, so a page that completes the jobs that run or succeeded is the last that is needed.
        """
        found: list[Any] = []
        missing = set(wanted)
        for page in self._pages(client, next(iter(wanted)) if len(wanted) == 1 else None):
            ours = [job for job in page if job.job_type == "completion"]
            missing -= {job.suffix or "" for job in ours if _STATUS.get(job.status) in _USEFUL}
            found += ours
            if not missing:
                break
        return sorted(found, key=lambda job: job.created_at)

    def _pages(self, client: Any, suffix: str | None) -> Iterator[list[Any]]:
        """Jobs of all kinds, page by page."""
        count = 0
        for page in range(_MOST_PAGES):
            answer = client.fine_tuning.jobs.list(page=page, page_size=_PAGE, suffix=suffix)
            yield answer.data or []
            count += len(answer.data or [])
            if count >= answer.total or not answer.data:
                return

    def _add_unlisted(self, client: Any, key: TrainingKey, listed: dict[TrainingKey, list[Any]]) -> None:
        """The job that this clone submitted, when no list shows it yet."""
        job_id = self._submissions.job_id(key)
        if job_id is None or any(item.id == job_id for item in listed.get(key, ())):
            return
        with contextlib.suppress(NotFound), mapped_errors():
            listed.setdefault(key, []).append(client.fine_tuning.jobs.get(job_id=job_id))

    def _with_reason(self, client: Any, job: Job) -> Job:
        """Lists do not tell why a job failed; its own page does, in its events."""
        if job.status != "failed":
            return job
        return _job(job.key, client.fine_tuning.jobs.get(job_id=job.job_id))

    def _uploaded(self, client: Any, content: bytes, sha256: str) -> str:
        """The ID of the file with this content, which is sent only if nobody has yet."""
        name = f"gitune-{sha256[:32]}.jsonl"
        for known in client.files.list(search=name, purpose="fine-tune", page_size=_PAGE).data:
            if known.filename == name and known.size_bytes == len(content):
                return str(known.id)
        return str(client.files.upload(file={"file_name": name, "content": content}, purpose="fine-tune").id)

    def _create(self, client: Any, request: TrainingRequest, train: str, validation: str | None) -> Any:
        values = {name: value for name, value in request.hyperparameters.items() if value is not None}
        if "training_steps" in values:
            values.pop("epochs", None)  # the API takes one of the two
        return client.fine_tuning.jobs.create(
            model=request.base_model,
            hyperparameters=values,
            training_files=[{"file_id": train}],
            validation_files=[validation] if validation else None,
            suffix=short(request.key),
            auto_start=True,
            job_type="completion",
        )

    @contextlib.contextmanager
    def _training_api(self) -> Iterator[Any]:
        """The client; that the training API is gone is said in words that help."""
        try:
            with self._client() as client:
                yield client
        except Retired as error:
            raise Retired(
                f"Mistral's training API is retired since July 2026 (410: {error.message})",
                hint="list another candidate in training:, or take over an existing model with gitune adopt",
            ) from None

    @contextlib.contextmanager
    def _client(self) -> Iterator[Any]:
        """The SDK, which repeats nothing by itself: a repeated submission could be paid for twice."""
        key = api_key(self._key_variable, self.name)
        try:
            import httpx
            from mistralai.client import Mistral
        except ImportError:
            raise Unauthorized("mistral needs its SDK", hint="pip install 'gitune[mistral]'") from None
        milliseconds = int(self._settings.timeout_seconds * 1000)
        with mapped_errors(), httpx.Client(verify=tls(), follow_redirects=True) as http:
            unused = httpx.AsyncClient(verify=tls())
            yield Mistral(api_key=key, server_url=self._url, timeout_ms=milliseconds, client=http, async_client=unused)


@contextlib.contextmanager
def mapped_errors() -> Iterator[None]:
    """What mistralai raises, as gitune's errors. Causes are dropped: they hold the request's headers."""
    import httpx
    from mistralai.client import errors

    try:
        yield
    except errors.MistralError as error:
        if error.status_code < 400:
            raise Unavailable("mistral: an answer that is not the protocol's") from None
        after = retry_after_seconds(error.headers.get("retry-after"))
        raise error_of_status(error.status_code, _words(error.body), retry_after=after) from None
    except (httpx.HTTPError, errors.NoResponseError) as error:
        raise Unavailable(f"mistral: no answer ({type(error).__name__})") from None
    except (ValueError, TypeError, AttributeError):
        raise Unavailable("mistral: an answer that is not the protocol's") from None


def _words(body: str) -> str:
    """The message in an error's body: {"message": ...}, {"detail": "..."}, or FastAPI's {"detail": [{"msg": ...}]}."""
    with contextlib.suppress(ValueError):
        value = json.loads(body)
        if isinstance(value, dict):
            said = value.get("message") or value.get("detail") or body
            if isinstance(said, dict):
                said = said.get("detail") or said
            if isinstance(said, list):
                said = "; ".join(str(item.get("msg", item) if isinstance(item, dict) else item) for item in said)
            return one_line(said if isinstance(said, str) else json.dumps(said))
    return one_line(body) or "no reason given"


def _job(key: TrainingKey, said: Any) -> Job:
    status = _STATUS.get(said.status, "unknown")
    if status == "succeeded" and not said.fine_tuned_model:
        status = "running"  # the model is being registered
    ended = status in ("succeeded", "failed", "cancelled")
    return Job(
        key,
        said.id,
        status,
        model_id=said.fine_tuned_model if status == "succeeded" else None,
        error=_failure(said) if status == "failed" else None,
        eta_seconds=None if ended else _eta_seconds(said),
        seconds=float(said.modified_at - said.created_at) if ended else None,
        cost_usd=_cost(said.metadata) if ended else None,
        detail=str(said.status).lower().replace("_", " "),
    )


def _listed_job(said: Any) -> ListedJob:
    """A kind of job that a later Mistral adds has perhaps neither ID nor status nor suffix that the SDK can read."""
    raw = getattr(said, "raw", None) or {}
    job_id, status, suffix = (getattr(said, name, None) or raw.get(name) for name in ("id", "status", "suffix"))
    ours = isinstance(suffix, str) and said.job_type == "completion" and _SHORT_KEY.fullmatch(suffix)
    return ListedJob(str(job_id or ""), _STATUS.get(str(status), "unknown"), str(suffix) if ours else None)


def _eta_seconds(said: Any) -> float | None:
    """Of a job that trains: it began when it was last modified, and the metadata tell how long it is to take."""
    expected = said.metadata.expected_duration_seconds if said.metadata else None
    if said.status != "RUNNING" or not expected:
        return None
    return float(max(0.0, said.modified_at + expected - time.time()))


def _failure(said: Any) -> ProviderError:
    """Why a job failed. The two limits of the status report came as failed validations of accepted jobs."""
    words = _event_words(said) or f"the job's status is {said.status}, and Mistral gives no reason"
    kind = quota_kind(words)
    if kind:
        return QuotaExceeded(words, kind=kind)
    if said.status == "FAILED_VALIDATION":
        return Rejected(words, hint="mend the data or the hyperparameters")
    return ProviderError(words, hint="run: gitune up --retry")


def _event_words(said: Any) -> str:
    """What the newest event says in words. The document does not name the fields of an event, so any text counts."""
    for event in sorted(getattr(said, "events", None) or [], key=lambda event: event.created_at, reverse=True):
        data = event.data if isinstance(event.data, dict) else {}
        words = [one_line(value) for name, value in data.items() if name != "status" and isinstance(value, str)]
        if any(words):
            return one_line("; ".join(word for word in words if word))
    return ""


def _event_line(event: Any) -> str:
    data = event.data if isinstance(event.data, dict) else {}
    facts = [f"{name} {value}" for name, value in data.items() if value not in (None, "")]
    return one_line(f"{event.name}: {', '.join(facts)}" if facts else event.name)


def _checkpoint_line(point: Any) -> str:
    metrics = point.metrics.model_dump(exclude_none=True)
    return f"step {point.step_number}: {', '.join(f'{name} {value}' for name, value in metrics.items())}"


def _cost(metadata: Any) -> float | None:
    """In dollars; a cost in another currency is left unknown rather than converted at a guess."""
    if not metadata or not isinstance(metadata.cost, int | float) or metadata.cost_currency != "USD":
        return None
    return float(metadata.cost)


def _allowed(name: str, value: Any) -> bool:
    least, most, kind, _ = _HYPERPARAMETERS[name]
    number = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    return number and least <= value <= most and value != math.inf
