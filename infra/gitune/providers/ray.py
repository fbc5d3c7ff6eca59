"""Ray Jobs on any cluster, KubeRay included: the cluster runs gitune's own training script.

A job's submission ID is made of its training key, so Ray itself refuses a second one. Data, script, adapter and outcome
go through a store that both sides can reach; training/store_job.py says what lies in it. Ray forgets its jobs when its
head restarts. The store does not: what was trained stays trained, with no cluster left to ask.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, Field, model_validator

from gitune.dataset.manifest import TRAIN_FILE, VALIDATION_FILE
from gitune.errors import (
    GituneError,
    NotFound,
    Problem,
    ProviderError,
    Unauthorized,
    Unavailable,
)
from gitune.prices import Tokens
from gitune.providers.base import (
    Estimate,
    Job,
    ListedJob,
    LocalTarget,
    Model,
    TrainingDefaults,
    TrainingKey,
    TrainingRequest,
    short,
)
from gitune.providers.lines import whole_lines
from gitune.providers.ray_client import address_of, headers_of, is_loopback, last_line, open_client
from gitune.providers.ray_jobs import (
    ENDED,
    JOB_ID,
    KEY_NAME,
    PREFIX,
    Info,
    Record,
    attempts_by_name,
    job_id_of,
    job_of_outcome,
    listed_job,
    read_job,
)
from gitune.providers.settings import HttpSettings
from gitune.store_url import check_store_url
from gitune.training import sft, store_job
from gitune.training.base_model import DEFAULT_BASE_MODEL, resolve_base_model
from gitune.training.store_job import Store

_MODEL_ID = re.compile(rf"{PREFIX}[0-9a-f]{{16}}")
_READERS = 16
# The first script comes from the store like everything else, so nothing is packed, uploaded or unpacked by Ray.
_BOOTSTRAP = "import sys, fsspec; exec(compile(fsspec.open(sys.argv[1]).open().read(), 'store_job.py', 'exec'))"


class RaySettings(HttpSettings):
    """`base_url` is the dashboard's; `key_variable` names the variable with the token of a secured cluster."""

    cpus: Annotated[float, Field(gt=0, description="CPUs that Ray sets aside for a job.")] = 1
    gpus: Annotated[float, Field(ge=0, description="GPUs that Ray sets aside: a share below 1, or whole ones.")] = 0
    store: Annotated[
        str | None,
        Field(
            pattern=r"^[a-z][a-z0-9+.-]*://\S+$",
            description="Where data, adapter and outcome go, such as s3://bucket/gitune. Left out: a folder below "
            ".gitune, right only for a cluster on this machine.",
        ),
        AfterValidator(lambda url: url and check_store_url(url)),
    ] = None
    python: Annotated[
        str | None, Field(min_length=1, description="The interpreter in the cluster. Left out: this one, or python.")
    ] = None
    pip: Annotated[tuple[str, ...], Field(strict=False, description="Packages that Ray installs for each job.")] = ()
    image: Annotated[str | None, Field(min_length=1, description="Container image that Ray runs each job in.")] = None
    usd_per_hour: Annotated[float | None, Field(ge=0, description="Price of what a job sets aside.")] = None

    @model_validator(mode="after")
    def _fits_ray(self) -> Self:
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError("gpus must be a share below 1 or a whole number")
        if self.pip and self.image:
            raise ValueError("pip and image exclude each other: install the packages in the image")
        return self


class RayProvider:
    """Jobs of a Ray cluster. How many run at once is the cluster's to decide: the others wait there."""

    name: ClassVar[str] = "ray"
    defaults: ClassVar[TrainingDefaults] = TrainingDefaults(DEFAULT_BASE_MODEL, sft.default_hyperparameters())
    settings: ClassVar[type[RaySettings]] = RaySettings

    def __init__(self, settings: RaySettings, root: Path) -> None:
        self._settings = settings
        self._root = root
        self._store_url = settings.store or f"file://{(root / '.gitune' / 'ray').resolve()}"

    def check(self, request: TrainingRequest) -> list[Problem]:
        """The embedded base model and the default store are for a cluster on this machine."""
        wrong = sft.check_hyperparameters(request.hyperparameters)
        problems = [Problem(name, 0, message) for name, message in wrong.items()]
        try:
            address = self._address()
        except Unauthorized as error:
            return [*problems, Problem("RAY_ADDRESS", 0, error.message, error.hint)]
        if request.base_model == DEFAULT_BASE_MODEL and not self._is_here():
            message = f"{DEFAULT_BASE_MODEL} is embedded in gitune, the cluster does not have it"
            hint = "name a Hugging Face ID, such as HuggingFaceTB/SmolLM2-135M-Instruct"
            problems.append(Problem("base_model", 0, message, hint))
        if self._settings.store is None and not is_loopback(address):
            message = f"the cluster at {address} cannot read a folder of this machine"
            problems.append(Problem("store", 0, message, "set store: s3://... in gitune:providers: ray:"))
        return problems

    def estimate(self, request: TrainingRequest, tokens: Tokens | None = None) -> Estimate:
        """Unknown: nobody tells how fast a cluster is."""
        return Estimate(usd=None, minutes=None)

    def find_job(self, key: TrainingKey) -> Job | None:
        if trained := self._trained(key):
            return trained
        return self._job(key, self._attempts(key))

    def submit_job(self, request: TrainingRequest, dataset: Path) -> Job:
        key = request.key
        if trained := self._trained(key):
            return trained
        attempts = self._attempts(key)
        found = self._job(key, attempts)
        if found is not None and (found.live or found.status == "succeeded"):
            return found
        job_id = job_id_of(key, len(attempts) + 1)
        entrypoint = self._put_inputs(request, dataset, job_id)
        try:
            self._client().submit_job(
                entrypoint=entrypoint,
                submission_id=job_id,
                runtime_env=self._runtime_env(),
                metadata={KEY_NAME: key},
                entrypoint_num_cpus=self._settings.cpus,
                entrypoint_num_gpus=self._settings.gpus or None,
            )
        except Unavailable as error:
            if "already exists" not in error.message:  # Ray says it with status 500
                raise
            found = self._job(key, self._attempts(key))
            if found is None:
                raise
            return found
        return Job(key, job_id, "queued", detail="waiting for the cluster")

    def list_jobs(self, keys: Collection[TrainingKey]) -> Mapping[TrainingKey, Job]:
        """One list of the store, one of the cluster, and then what the store says of those that it lists."""
        with self._asking_store() as store:
            there = set(store.names("jobs"))
        jobs = self._each(self._trained, [key for key in keys if short(key) in there])
        rest = [key for key in keys if key not in jobs]
        if not rest:
            return jobs
        attempts = attempts_by_name(self._client().jobs())
        known = [key for key in rest if short(key) in there or short(key) in attempts]
        return {**jobs, **self._each(lambda key: self._job(key, attempts.get(short(key), [])), known)}

    def all_jobs(self) -> Sequence[ListedJob]:
        return [listed_job(info) for info in self._client().jobs()]

    def job_log(self, job_id: str) -> Sequence[str]:
        """The driver's output, as long as the cluster knows the job."""
        info = self._client().job(job_id) if JOB_ID.fullmatch(job_id) else None
        if info is None:
            raise NotFound(f"the cluster knows no job '{job_id}'", hint="a cluster forgets its jobs with its head")
        return whole_lines(self._client().get_job_logs(job_id), ended=info["status"] in ENDED)

    def cancel_job(self, job_id: str) -> None:
        """Ray stops a running job within seconds, and a waiting one only when its turn comes: then it ends at once."""
        match = JOB_ID.fullmatch(job_id)
        if match is None:
            raise NotFound(f"no Ray job '{job_id}'")
        folder = f"jobs/{match[1]}"
        with self._asking_store() as store:
            outcome = store.read_json(f"{folder}/outcome.json") or {}
            config = store.read_json(f"{folder}/config.json") or {}
        if outcome.get("submission") == job_id and outcome["status"] == "succeeded":
            return
        info = self._client().job(job_id)
        if info is None and outcome.get("submission") != job_id:
            raise NotFound(f"no Ray job '{job_id}'")
        if info is None or info["status"] in ENDED:
            return
        if config.get("submission") == job_id:
            with self._asking_store() as store:
                store.write_json(f"{folder}/config.json", {**config, "cancelled": True})
        self._client().stop_job(job_id)

    def get_model(self, model_id: str) -> Model | None:
        outcome = self._outcome(model_id)
        if outcome is None:
            return None
        with self._asking_store() as store:
            archived = store.read(f"{_folder(model_id)}/archived") is not None
        return Model(model_id, outcome["base_model"], archived, outcome["training"])

    def archive_model(self, model_id: str) -> None:
        """Leaves a mark beside the model in the store; nothing is deleted."""
        if self._outcome(model_id) is None:
            raise NotFound(f"no model '{model_id}' in {self._store_url}")
        with self._asking_store() as store:
            store.write(f"{_folder(model_id)}/archived", b"")

    def chat_target(self, model_id: str) -> LocalTarget:
        """Downloads the adapter on the first call, to .gitune/models of the repository."""
        outcome = self._outcome(model_id)
        if outcome is None:
            raise NotFound(f"no model '{model_id}' in {self._store_url}", hint="run: gitune up")
        folder = self._root / ".gitune" / "models" / model_id.removeprefix(PREFIX)
        if not folder.is_dir():
            with self._asking_store() as store:
                _download(store, outcome, folder)
        return LocalTarget(outcome["base_model"], folder)

    # --- the store

    @contextlib.contextmanager
    def _asking_store(self) -> Iterator[Store]:
        """The one place that turns what file systems raise into gitune's errors."""
        try:
            yield Store.open(self._store_url)
        except ProviderError:
            raise
        except ImportError as error:
            hint = "pip install 'gitune[ray]', and this file system's package"
            raise Unauthorized(f"store {self._store_url}: {last_line(str(error))}", hint=hint) from None
        except Exception as error:  # noqa: BLE001 - each file system has errors of its own
            message = f"store {self._store_url}: {last_line(str(error)) or type(error).__name__}"
            if isinstance(error, PermissionError) or type(error).__name__ == "NoCredentialsError":
                raise Unauthorized(message, hint="check your credentials for the store") from None
            if isinstance(error, FileNotFoundError):  # a bucket, or what somebody deleted
                raise NotFound(message, hint="check store in gitune:providers: ray:") from None
            raise Unavailable(message) from None

    def _outcome(self, model_id: str) -> dict[str, Any] | None:
        """How the job of a model ended well."""
        if not _MODEL_ID.fullmatch(model_id):
            return None
        with self._asking_store() as store:
            outcome = store.read_json(f"{_folder(model_id)}/outcome.json")
        return outcome if outcome is not None and outcome.get("status") == "succeeded" else None

    def _trained(self, key: TrainingKey) -> Job | None:
        outcome = self._outcome(PREFIX + short(key))
        if outcome is None or outcome["key"] != key:
            return None
        return job_of_outcome(key, outcome, self._settings.usd_per_hour)

    def _record(self, key: TrainingKey) -> Record:
        with self._asking_store() as store:
            names = ("outcome", "config", "status")
            outcome, config, status = (store.read_json(f"jobs/{short(key)}/{name}.json") or {} for name in names)
        return Record(outcome, config, status)

    def _put_inputs(self, request: TrainingRequest, dataset: Path, job_id: str) -> str:
        """Everything that the job needs, into the store. Returns the command that starts it."""
        load = request.base_model
        if self._is_here():
            try:
                load = resolve_base_model(load)
            except GituneError as error:
                raise Unauthorized(error.message, hint=error.hint) from None
        with self._asking_store() as store:
            files = {"sft.py": store.add(Path(sft.__file__).read_bytes())}
            files |= {name: store.add((dataset / name).read_bytes()) for name in (TRAIN_FILE, VALIDATION_FILE)}
            script = store.add(Path(store_job.__file__).read_bytes())
            folder = f"jobs/{short(request.key)}"
            config = {
                "key": request.key,
                "base_model": request.base_model,
                "load": load,
                "method": request.method,
                "hyperparameters": dict(request.hyperparameters),
                "fingerprint": request.fingerprint,
                "files": files,
                "submission": job_id,
            }
            store.write_json(f"{folder}/config.json", config)
        python = self._settings.python or (sys.executable if self._is_here() else "python")
        arguments = [f"{store.url}/{script}", store.url, short(request.key), job_id]
        return shlex.join([python, "-c", _BOOTSTRAP, *arguments])

    # --- the cluster

    def _client(self) -> Any:
        headers = headers_of(self._settings.key_variable)
        return open_client(self._address(), headers, self._settings.timeout_seconds)

    def _address(self) -> str:
        return address_of(self._settings.base_url)

    def _runtime_env(self) -> dict[str, Any]:
        if self._settings.image:
            return {"image_uri": self._settings.image}
        return {"pip": list(self._settings.pip)} if self._settings.pip else {}

    def _is_here(self) -> bool:
        """Whether the cluster is on this machine. A loopback address alone may be a forwarded port."""
        return is_loopback(self._address()) and self._store_url.startswith("file://")

    def _attempts(self, key: TrainingKey) -> list[Info]:
        """The job's submissions by ID, oldest first: an ID is known at once, whatever a list shows."""
        client = self._client()
        attempts: list[Info] = []
        while (info := client.job(job_id_of(key, len(attempts) + 1))) is not None:
            attempts.append(info)
        return attempts

    def _each(self, look: Any, keys: Sequence[TrainingKey]) -> dict[TrainingKey, Job]:
        with ThreadPoolExecutor(_READERS) as readers:
            found = readers.map(look, keys)
            return {key: job for key, job in zip(keys, found, strict=True) if job is not None}

    def _job(self, key: TrainingKey, attempts: Sequence[Info]) -> Job | None:
        rate = self._settings.usd_per_hour
        return read_job(key, attempts, self._record(key), now=time.time(), usd_per_hour=rate)


def _folder(model_id: str) -> str:
    return f"jobs/{model_id.removeprefix(PREFIX)}"


def _download(store: Store, outcome: Mapping[str, Any], folder: Path) -> None:
    """The adapter, whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder.parent))
    try:
        for name, digest in outcome["files"].items():
            store.fetch(f"{outcome['model']}/{name}", digest, work / Path(name).name)
        with contextlib.suppress(OSError):  # another process was faster, with the same bytes
            work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
