"""Amazon Bedrock: Claude 3 Haiku, tuned by a model customization job. Data and output are in a bucket of the account.

A job is named by its training key, and so is its `clientRequestToken`: a request that is sent twice is one job, whoever
sends it. What failed or was stopped is tried again as the next attempt, with a name and a token of its own:

    gitune-<first 16 digits of the key>        token <key>
    gitune-<first 16 digits of the key>-2      token <key>-2

A name is used once in an account, so attempts are counted through names, and a job is asked for by its name,
which does not lag as a list may. Credentials, profile, region and endpoints are what boto3 finds: AWS_ACCESS_KEY_ID,
AWS_PROFILE, AWS_ENDPOINT_URL_BEDROCK and the rest.

https://docs.aws.amazon.com/bedrock/latest/userguide/custom-models.html
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from gitune.dataset.upload import upload_files
from gitune.errors import NotFound, Problem, QuotaExceeded, Rejected, Unauthorized, Unavailable
from gitune.hints import did_you_mean, one_of
from gitune.prices import TokenPrice, Tokens, find_price, token_cost
from gitune.providers.aws import error_of_failure, mapped, open_client
from gitune.providers.base import (
    ConverseTarget,
    Estimate,
    Job,
    JobStatus,
    ListedJob,
    Model,
    TrainingDefaults,
    TrainingKey,
    TrainingRequest,
    short,
)
from gitune.providers.bedrock_log import told_of
from gitune.providers.settings import ProviderSettings

DEFAULT_BASE_MODEL = "anthropic.claude-3-haiku-20240307-v1:0:200k"
_AT_ONCE = 2
_LONGEST_PAGE = 1000
_KEY_TAG = "gitune:key"
_ARCHIVED = {"key": "gitune:archived", "value": "true"}
_BASE_MODEL = re.compile(r"(arn:aws(-[^:]+)?:bedrock:[a-z0-9-]{1,20}::foundation-model/)?anthropic\.[a-z0-9.:-]{1,200}")
_CONTEXT = re.compile(r":\d+k$")
_NAME = re.compile(r"gitune-(?P<short>[0-9a-f]{16})(-(?P<attempt>[1-9]\d*))?")
_STATUS: Mapping[str, JobStatus] = {
    "InProgress": "running",
    "Completed": "succeeded",
    "Failed": "failed",
    "Stopping": "running",  # it may still bill and still holds its place: nothing new until it has stopped
    "Stopped": "cancelled",
}
_STAGES = {
    "validationDetails": "validating the data",
    "dataProcessingDetails": "processing the data",
    "trainingDetails": "training",
}
# https://docs.aws.amazon.com/bedrock/latest/userguide/cm-hp-anth-claude-3.html
_HYPERPARAMETERS: Mapping[str, tuple[type, float, float]] = {
    "epochCount": (int, 1, 10),
    "batchSize": (int, 4, 256),
    "learningRateMultiplier": (float, 0.1, 2.0),
    "earlyStoppingThreshold": (float, 0.0, 0.1),
    "earlyStoppingPatience": (int, 1, 10),
}
_JOB = ("jobArn", "jobName", "status", "creationTime")
_SERVING = (
    ("list_provisioned_model_throughputs", "InService", "provisionedModelSummaries", "provisionedModelArn"),
    ("list_custom_model_deployments", "Active", "modelDeploymentSummaries", "customModelDeploymentArn"),
)
"""The calls that tell what answers for a custom model, the one that is paid for by the hour first."""
_SETTING = "below gitune:providers: bedrock: in Pulumi.<stack>.yaml"


class BedrockSettings(ProviderSettings):
    """The account's side of it; `concurrency` left out is 2, the account's own limit."""

    region: Annotated[
        str | None, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$", description="Such as us-west-2; else AWS_REGION.")
    ] = None
    role_arn: Annotated[
        str | None,
        Field(pattern=r"^arn:aws(-[^:]+)?:iam::\d{12}:role/.+$", description="Bedrock's, for the bucket."),
    ] = None
    bucket: Annotated[
        str | None, Field(pattern=r"^[a-z0-9][-.a-z0-9]{1,61}[a-z0-9]$", description="For the data and the output.")
    ] = None
    prefix: Annotated[
        str, Field(pattern=r"^[-!_*'().a-zA-Z0-9]+(/[-!_*'().a-zA-Z0-9]+)*$", description="Folder in the bucket.")
    ] = "gitune"
    kms_key: Annotated[
        str | None, Field(min_length=1, max_length=2048, description="ID, alias or ARN of the key of the models.")
    ] = None
    timeout_seconds: Annotated[float, Field(gt=0, le=600, description="Longest wait for one answer.")] = 30.0


class BedrockProvider:
    """Model customization jobs of one account and region. The API tells no cost."""

    name: ClassVar[str] = "bedrock"
    defaults: ClassVar[TrainingDefaults] = TrainingDefaults(
        DEFAULT_BASE_MODEL, {"epochCount": 2, "batchSize": 32, "learningRateMultiplier": 1.0}
    )
    settings: ClassVar[type[BedrockSettings]] = BedrockSettings

    def __init__(self, settings: BedrockSettings, root: Path) -> None:
        self._settings = settings
        self._clients: dict[str, Any] = {}

    def check(self, request: TrainingRequest) -> list[Problem]:
        problems = [problem for item in request.hyperparameters.items() if (problem := _wrong_hyperparameter(*item))]
        if not _BASE_MODEL.fullmatch(request.base_model):
            message = f"'{request.base_model}' is not one of Anthropic's models on Bedrock"
            problems.append(Problem("base_model", 0, message, f"such as {DEFAULT_BASE_MODEL}"))
        return problems

    def estimate(self, request: TrainingRequest, tokens: Tokens | None = None) -> Estimate:
        """By the price that the stack gives: Amazon's own could not be confirmed, so gitune's table has none."""
        price = find_price(self.name, request.base_model, self._settings.prices)
        if not isinstance(price, TokenPrice):
            return Estimate(usd=None, minutes=None)
        times = float(request.hyperparameters["epochCount"])
        return Estimate(usd=token_cost(price, tokens, (times, times, times)), minutes=None)

    def find_job(self, key: TrainingKey) -> Job | None:
        found = self._newest(key, self._listed(nameContains=_job_name(key, 1)))
        return None if found is None else self._job(key, found)

    def submit_job(self, request: TrainingRequest, dataset: Path) -> Job:
        """The attempt after the newest one. Raises QuotaExceeded while `concurrency` jobs of gitune are in progress."""
        self._require("role_arn")
        self._require("bucket")
        found = self._newest(request.key, self._listed(nameContains=_job_name(request.key, 1)))
        job = None if found is None else self._job(request.key, found)
        if job is not None and (job.live or job.status == "succeeded"):
            return job
        self._refuse_when_full()
        attempt = 1 if found is None else _attempt(found["jobName"], request.key) + 1
        order = self._order(request, dataset, attempt)
        answer = self._call("bedrock", "create_model_customization_job", ["jobArn"], **order)
        return Job(request.key, answer["jobArn"], "running", detail="submitted")

    def list_jobs(self, keys: Collection[TrainingKey]) -> Mapping[TrainingKey, Job]:
        """One list for all; one more question for each key whose job went wrong."""
        listed = self._listed(nameContains="gitune-")
        mine = {key: [said for said in listed if _attempt(said["jobName"], key)] for key in keys}
        newest = {key: self._newest(key, found) for key, found in mine.items() if found}
        return {key: self._job(key, found) for key, found in newest.items() if found is not None}

    def all_jobs(self) -> Sequence[ListedJob]:
        return [_listed_job(said) for said in self._listed()]

    def job_log(self, job_id: str) -> Sequence[str]:
        """What Bedrock says of the job: no API has its output, and CloudWatch gets none. Metrics are in the bucket."""
        return told_of(self._job_in_full(job_id))

    def cancel_job(self, job_id: str) -> None:
        try:
            self._call("bedrock", "stop_model_customization_job", jobIdentifier=job_id)
        except (Rejected, Unavailable):  # a job that has ended is refused as a conflict or as invalid
            if self._job_in_full(job_id)["status"] == "InProgress":
                raise

    def get_model(self, model_id: str) -> Model | None:
        try:
            said = self._call("bedrock", "get_custom_model", ["modelArn", "baseModelArn"], modelIdentifier=model_id)
        except NotFound:
            return None
        tags = self._call("bedrock", "list_tags_for_resource", ["tags"], resourceARN=said["modelArn"])["tags"]
        base_model = said["baseModelArn"].rpartition("foundation-model/")[2]
        return Model(said["modelArn"], base_model, _ARCHIVED in tags, said.get("trainingMetrics", {}))

    def archive_model(self, model_id: str) -> None:
        """Bedrock has no archive: an archived model is one with the tag gitune:archived=true. It is never deleted."""
        self._call("bedrock", "tag_resource", resourceARN=self._must_get(model_id).model_id, tags=[_ARCHIVED])

    def chat_target(self, model_id: str) -> ConverseTarget:
        """The model's provisioned throughput, else its on-demand deployment.

        gitune starts neither: both are billed, the former by the hour. A custom model that has none cannot be asked
        (Converse takes no ARN of one); then this raises Unavailable.
        """
        model = self._must_get(model_id)
        served = self._serving(model.model_id)
        if served is None:
            hint = "start a provisioned throughput or an on-demand deployment of it; Amazon bills both"
            raise Unavailable(f"nothing on Bedrock serves {model.model_id}", hint=hint)
        region = self._client("bedrock").meta.region_name
        return ConverseTarget(served, _CONTEXT.sub("", model.base_model), region, endpoint_url=None)

    # --- jobs

    def _listed(self, **filters: str) -> list[dict[str, Any]]:
        client = self._client("bedrock")
        with mapped():
            paginator = client.get_paginator("list_model_customization_jobs")
            pages = paginator.paginate(**filters, PaginationConfig={"PageSize": _LONGEST_PAGE})
            return [_with_fields(said, _JOB) for page in pages for said in page["modelCustomizationJobSummaries"]]

    def _job_in_full(self, name_or_arn: str) -> dict[str, Any]:
        return self._call("bedrock", "get_model_customization_job", _JOB, jobIdentifier=name_or_arn)

    def _newest(self, key: TrainingKey, listed: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """What is said of the newest attempt: of those listed, or of those that are not listed yet."""
        newest = max(
            (said for said in listed if _attempt(said["jobName"], key)),
            key=lambda said: _attempt(said["jobName"], key),
            default=None,
        )
        while newest is None or _STATUS.get(newest["status"]) in ("failed", "cancelled"):
            following = _job_name(key, 1 if newest is None else _attempt(newest["jobName"], key) + 1)
            try:
                newest = self._job_in_full(following)
            except NotFound:
                break
        return newest

    def _job(self, key: TrainingKey, said: Mapping[str, Any]) -> Job:
        """A job from an item of a list or from a job in full; only the latter tells why it failed."""
        status = _STATUS.get(said["status"], "unknown")
        error = None
        if status == "failed":
            full = said if "failureMessage" in said else self._job_in_full(said["jobArn"])
            error = error_of_failure(full.get("failureMessage", ""))
        end = said.get("endTime") or datetime.now(UTC)
        return Job(
            key,
            said["jobArn"],
            status,
            model_id=said.get("outputModelArn") or said.get("customModelArn"),
            error=error,
            seconds=max((end - said["creationTime"]).total_seconds(), 0.0),
            detail=_detail(said),
        )

    def _refuse_when_full(self) -> None:
        most = self._settings.concurrency or _AT_ONCE
        running = len(self._listed(nameContains="gitune-", statusEquals="InProgress"))
        if running >= most:
            raise QuotaExceeded(f"{most} job(s) at once on Bedrock, and {running} are in progress", kind="concurrent")

    def _order(self, request: TrainingRequest, dataset: Path, attempt: int) -> dict[str, Any]:
        upload = upload_files(dataset, "bedrock")
        name = _job_name(request.key, attempt)
        tags = [{"key": _KEY_TAG, "value": request.key}]
        order: dict[str, Any] = {
            "jobName": name,
            "customModelName": name,
            "roleArn": self._settings.role_arn,
            "clientRequestToken": request.key if attempt == 1 else f"{request.key}-{attempt}",
            "baseModelIdentifier": request.base_model,
            "customizationType": "FINE_TUNING",
            "jobTags": tags,
            "customModelTags": tags,
            "trainingDataConfig": {"s3Uri": self._uploaded(upload.train, upload.train_sha256)},
            "outputDataConfig": {"s3Uri": f"s3://{self._settings.bucket}/{self._settings.prefix}/output/"},
            "hyperParameters": {name: str(value) for name, value in request.hyperparameters.items()},
        }
        if upload.validation is not None and upload.validation_sha256 is not None:
            uri = self._uploaded(upload.validation, upload.validation_sha256)
            order["validationDataConfig"] = {"validators": [{"s3Uri": uri}]}
        if self._settings.kms_key is not None:
            order["customModelKmsKeyId"] = self._settings.kms_key
        return order

    def _uploaded(self, content: bytes, digest: str) -> str:
        """The URI of the file with this content, sent unless it is there."""
        bucket, name = self._settings.bucket, f"{self._settings.prefix}/{digest}.jsonl"
        try:
            self._call("s3", "head_object", Bucket=bucket, Key=name)
        except (NotFound, Unauthorized):  # who may not list a bucket is told 403 of a file that is not there
            self._call("s3", "put_object", Bucket=bucket, Key=name, Body=content, ContentType="application/jsonl")
        return f"s3://{bucket}/{name}"

    # --- models

    def _must_get(self, model_id: str) -> Model:
        model = self.get_model(model_id)
        if model is None:
            raise NotFound(f"no custom model '{model_id}' on Bedrock")
        return model

    def _serving(self, arn: str) -> str | None:
        """The ARN of what answers for a custom model, if anything does."""
        for operation, status, items, name in _SERVING:
            answer = self._call("bedrock", operation, [items], modelArnEquals=arn, statusEquals=status)
            for found in answer[items]:
                return str(found[name])
        return None

    # --- the wire

    def _require(self, setting: str) -> None:
        if getattr(self._settings, setting) is None:
            raise Unauthorized(f"Bedrock needs the setting {setting}", hint=f"set {setting} {_SETTING}")

    def _call(self, service: str, operation: str, needed: Collection[str] = (), **parameters: Any) -> dict[str, Any]:
        """The answer, in which the `needed` fields are there."""
        client = self._client(service)
        with mapped():
            answer: dict[str, Any] = getattr(client, operation)(**parameters)
        return _with_fields(answer, needed)

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            region = self._settings.region or os.environ.get("AWS_REGION")  # boto3 reads AWS_DEFAULT_REGION only
            self._clients[service] = open_client(service, region, self._settings.timeout_seconds)
        return self._clients[service]


def _job_name(key: TrainingKey, attempt: int) -> str:
    return f"gitune-{short(key)}" if attempt == 1 else f"gitune-{short(key)}-{attempt}"


def _attempt(name: str, key: TrainingKey) -> int:
    """Which attempt of this training has the name, counted from 1; 0: none has."""
    match = _NAME.fullmatch(name)
    return int(match["attempt"] or 1) if match and match["short"] == short(key) else 0


def _listed_job(said: Mapping[str, Any]) -> ListedJob:
    name = _NAME.fullmatch(said["jobName"])
    return ListedJob(said["jobArn"], _STATUS.get(said["status"], "unknown"), name["short"] if name else None)


def _detail(said: Mapping[str, Any]) -> str:
    if said["status"] != "InProgress":
        return str(said["status"]).lower()
    stages = said.get("statusDetails", {})
    return next((words for name, words in _STAGES.items() if stages.get(name, {}).get("status") == "InProgress"), "")


def _with_fields(said: dict[str, Any], needed: Iterable[str]) -> dict[str, Any]:
    missing = [name for name in needed if name not in said]
    if missing:
        raise Unavailable(f"an answer that is not the protocol's: without {missing[0]}")
    return said


def _wrong_hyperparameter(name: str, value: Any) -> Problem | None:
    if name not in _HYPERPARAMETERS:
        message = f"Claude 3 on Bedrock has no hyperparameter '{name}'"
        return Problem(name, 0, message, did_you_mean(name, _HYPERPARAMETERS) or one_of(_HYPERPARAMETERS))
    kind, low, high = _HYPERPARAMETERS[name]
    whole = kind is int
    fits = type(value) is int or (type(value) is float and not whole)
    if fits and low <= value <= high:
        return None
    return Problem(name, 0, f"must be a{' whole' if whole else ''} number from {low} to {high}, not {value!r}")
