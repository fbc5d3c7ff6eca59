"""Amazon Bedrock and the little of S3 that a training needs, on one port. S3 is below /s3: AWS_ENDPOINT_URL_S3.

Requests and answers are checked against botocore's service descriptions (aws.py). A custom model answers once
something serves it: a provisioned throughput or a deployment.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, ClassVar
from xml.sax.saxutils import escape

from tests.servers.aws import aws_error, event_stream, operation
from tests.servers.base import HttpServer, Request, Response, route
from tests.servers.jobs import FakeJob, Jobs, Limits
from tests.servers.learned import UNTUNED, Learned

REGION = "us-west-2"
ACCOUNT = "123456789012"
KEY_ID = "AKIAPLANTED0123456789"
SECRET = "planted/secret+access+key+0123456789abcdef"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/gitune-bedrock"
BUCKET = "genesis-agents"
BASE_MODEL = "anthropic.claude-3-haiku-20240307-v1:0:200k"
FEWEST_EXAMPLES = 32
_STATUS = {"running": "InProgress", "succeeded": "Completed", "failed": "Failed", "cancelled": "Stopped"}
_ERRORS = {
    400: "ValidationException",
    401: "UnrecognizedClientException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}


class BedrockServer(HttpServer):
    """One account in one region, with one bucket."""

    submit_route: ClassVar[tuple[str, str]] = ("POST", "/model-customization-jobs")

    def __init__(self) -> None:
        super().__init__()
        self.jobs = Jobs(self.clock, Limits(running=2, excess="refuse"))
        self.contents: dict[str, bytes] = {}
        """s3://bucket/key → content."""
        self.may_list = True
        """Whether the caller may list the bucket; who may not is told 403 of a file that is not there."""
        self.base_models = {BASE_MODEL}
        """Those that can be tuned."""
        self.retired: set[str] = set()
        """Base models at the end of their life."""
        self.tags: dict[str, dict[str, str]] = {}
        self.provisioned: dict[str, str] = {}
        """ARN of a provisioned throughput → ARN of its model."""
        self.deployments: dict[str, str] = {}
        """ARN of a custom model deployment → ARN of its model."""
        self.throughputs: dict[str, str] = {}
        """ARN of a provisioned throughput that was ordered → its name."""
        self.moving: dict[str, tuple[str, int]] = {}
        """ARN of a throughput → what it moves to, and how many lists it takes."""
        self.provisions_models = False
        """Whether each trained model gets a provisioned throughput, as if an operator bought one at once."""
        self.stopping_seconds = 0.0
        """How long a job that is stopped is Stopping."""
        self.page_size = 100
        """Longest page of a list."""
        self.codes: list[tuple[int, str, str]] = []
        """Status, code and message of the next refusals of create_model_customization_job."""
        self.upload_codes: list[tuple[int, str, str]] = []
        """The same of put_object."""

    # --- for tests

    def provision(self, model_arn: str) -> str:
        """Give a custom model a provisioned throughput; its ARN."""
        arn = self._arn("provisioned-model", model_arn)
        self.provisioned[arn] = model_arn
        return arn

    def deploy(self, model_arn: str) -> str:
        """Give a custom model an on-demand deployment; its ARN."""
        arn = self._arn("custom-model-deployment", model_arn)
        self.deployments[arn] = model_arn
        return arn

    # --- the exchange

    def authorize(self, request: Request) -> Response | None:
        service = "s3" if request.path.startswith("/s3/") else "bedrock"
        scope = rf"AWS4-HMAC-SHA256 Credential={KEY_ID}/\d{{8}}/{REGION}/{service}/aws4_request, .*"
        if re.fullmatch(scope, request.headers.get("Authorization", "")):
            return None
        message = "The security token included in the request is invalid."
        if service == "s3":
            return _s3_error(403, "InvalidAccessKeyId", message)
        return aws_error(403, "UnrecognizedClientException", message)

    def error(self, status: int, message: str) -> Response:
        return aws_error(status, _ERRORS.get(status, "UnknownException"), message)

    # --- S3

    @route("HEAD", "/s3/(?P<bucket>[^/]+)/(?P<key>.+)")
    def head_object(self, request: Request) -> Response:
        content = self.contents.get(_uri(request))
        if content is None:
            return Response(404 if self.may_list else 403)
        return Response(200, content)

    @route("GET", "/s3/(?P<bucket>[^/]+)/(?P<key>.+)")
    def get_object(self, request: Request) -> Response:
        content = self.contents.get(_uri(request))
        if content is None:
            return _s3_error(404, "NoSuchKey", "The specified key does not exist.")
        return Response(200, content, {"Content-Type": "application/octet-stream"})

    @route("PUT", "/s3/(?P<bucket>[^/]+)/(?P<key>.+)")
    def put_object(self, request: Request) -> Response:
        if self.upload_codes:
            return _s3_error(*self.upload_codes.pop(0))
        if request.parts["bucket"] != BUCKET:
            return _s3_error(404, "NoSuchBucket", "The specified bucket does not exist")
        checksum = base64.b64encode(zlib.crc32(request.body).to_bytes(4, "big")).decode()
        if request.headers.get("x-amz-checksum-crc32", checksum) != checksum:
            return _s3_error(400, "BadDigest", "The CRC32 you specified did not match what we received.")
        self.contents[_uri(request)] = request.body
        return Response(200, b"", {"ETag": f'"{sha256(request.body).hexdigest()[:32]}"'})

    # --- jobs

    @operation("bedrock", "CreateModelCustomizationJob")
    def create(self, order: dict[str, Any]) -> dict[str, Any] | Response:
        for job in self.jobs.all.values():
            if job.facts["clientRequestToken"] == order["clientRequestToken"]:
                return {"jobArn": job.job_id}
        refusal = self._refusal(order)
        if refusal is not None:
            return refusal
        arn = self._arn(f"model-customization-job/{order['baseModelIdentifier']}", order["jobName"])
        problem = self._data_problem(order)
        if problem:
            self.jobs.fail_next.insert(0, problem)
        self.jobs.accept(arn, **order)
        self.tags[arn] = _as_dict(order.get("jobTags", []))
        self.tags[self._model_arn(self.jobs.all[arn])] = _as_dict(order.get("customModelTags", []))
        return {"jobArn": arn}

    @operation("bedrock", "GetModelCustomizationJob")
    def get(self, asked: dict[str, Any]) -> dict[str, Any] | Response:
        job = self._job(asked["jobIdentifier"])
        return _missing("job") if job is None else self._in_full(job)

    @operation("bedrock", "ListModelCustomizationJobs")
    def list_jobs(self, asked: dict[str, Any]) -> dict[str, Any]:
        found = [self._summary(job) for job in self.jobs.listed() if asked.get("nameContains", "") in _name(job)]
        wanted = asked.get("statusEquals")
        found = [said for said in found if wanted in (None, said["status"])]
        return self._page("modelCustomizationJobSummaries", found, asked)

    @operation("bedrock", "StopModelCustomizationJob")
    def stop(self, asked: dict[str, Any]) -> dict[str, Any] | Response:
        job = self._job(asked["jobIdentifier"])
        if job is None:
            return _missing("job")
        if self._status(job) != "InProgress":
            return aws_error(400, "ConflictException", "The job is not in progress.")
        self.jobs.cancel(job.job_id)
        return {}

    # --- models

    @operation("bedrock", "GetCustomModel")
    def get_custom_model(self, asked: dict[str, Any]) -> dict[str, Any] | Response:
        job = self._trained(asked["modelIdentifier"])
        if job is None:
            return _missing("model")
        full = self._in_full(job)
        return {
            "modelArn": full["outputModelArn"],
            "modelName": full["outputModelName"],
            "modelStatus": "Active",
            "creationTime": full["endTime"],
            **{name: full[name] for name in ("jobName", "jobArn", "baseModelArn", "customizationType")},
            **{name: full[name] for name in ("hyperParameters", "trainingDataConfig", "outputDataConfig")},
            "trainingMetrics": full["trainingMetrics"],
        }

    @operation("bedrock", "TagResource")
    def tag(self, asked: dict[str, Any]) -> dict[str, Any] | Response:
        if asked["resourceARN"] not in self.tags:
            return _missing("resource")
        self.tags[asked["resourceARN"]] |= _as_dict(asked["tags"])
        return {}

    @operation("bedrock", "ListTagsForResource")
    def list_tags(self, asked: dict[str, Any]) -> dict[str, Any] | Response:
        if asked["resourceARN"] not in self.tags:
            return _missing("resource")
        return {"tags": [{"key": key, "value": value} for key, value in self.tags[asked["resourceARN"]].items()]}

    @operation("bedrock", "ListCustomModelDeployments")
    def list_deployments(self, asked: dict[str, Any]) -> dict[str, Any]:
        found = [
            {
                "customModelDeploymentArn": arn,
                "customModelDeploymentName": "gitune",
                "modelArn": model,
                "createdAt": _time(self.clock.now),
                "status": "Active",
            }
            for arn, model in self.deployments.items()
            if asked.get("modelArnEquals") in (None, model)
        ]
        return self._page("modelDeploymentSummaries", found, asked)

    @operation("bedrock", "CreateProvisionedModelThroughput")
    def create_throughput(self, asked: dict[str, Any]) -> dict[str, Any] | Response:
        if asked["provisionedModelName"] in self.throughputs.values():
            return aws_error(400, "ValidationException", "The provided name is already in use.")
        if self._trained(asked["modelId"]) is None:
            return _missing("model")
        arn = self._arn("provisioned-model", asked["provisionedModelName"])
        self.throughputs[arn], self.moving[arn] = asked["provisionedModelName"], (asked["modelId"], 2)
        return {"provisionedModelArn": arn}

    @operation("bedrock", "UpdateProvisionedModelThroughput")
    def update_throughput(self, asked: dict[str, Any]) -> dict[str, Any] | Response:
        if asked["provisionedModelId"] not in self.throughputs:
            return _missing("provisioned throughput")
        self.moving[asked["provisionedModelId"]] = (asked["desiredModelId"], 2)
        return {}

    @operation("bedrock", "ListProvisionedModelThroughputs")
    def list_throughputs(self, asked: dict[str, Any]) -> dict[str, Any]:
        if self.provisions_models:
            for job in self.jobs.all.values():
                if self._status(job) == "Completed":
                    self.provision(self._model_arn(job))
        for arn, (model, left) in list(self.moving.items()):
            self.moving[arn] = (model, left - 1)
            if left == 0:
                self.provisioned[arn] = self.moving.pop(arn)[0]
        found = [
            {
                "provisionedModelName": self.throughputs.get(arn, "gitune"),
                "provisionedModelArn": arn,
                "modelArn": self.provisioned.get(arn, self.moving.get(arn, ("", 0))[0]),
                "desiredModelArn": self.moving[arn][0] if arn in self.moving else self.provisioned[arn],
                "foundationModelArn": _base_arn(BASE_MODEL),
                "modelUnits": 1,
                "desiredModelUnits": 1,
                "status": self._throughput_status(arn),
                "creationTime": _time(self.clock.now),
                "lastModifiedTime": _time(self.clock.now),
            }
            for arn in {**self.provisioned, **self.throughputs}
        ]
        name, model = asked.get("nameContains", ""), asked.get("modelArnEquals")
        found = [one for one in found if name in str(one["provisionedModelName"]) and model in (None, one["modelArn"])]
        return self._page("provisionedModelSummaries", found, asked)

    def _throughput_status(self, arn: str) -> str:
        if arn in self.moving:
            return "Updating" if arn in self.provisioned else "Creating"
        return "InService"

    # --- answers

    @operation("bedrock-runtime", "Converse")
    def converse(self, asked: dict[str, Any]) -> dict[str, Any] | Response:
        text = self._answer(asked)
        if isinstance(text, Response):
            return text
        message = {"role": "assistant", "content": [{"text": text}]}
        return {
            "output": {"message": message},
            "stopReason": "end_turn",
            "usage": _usage(asked, text),
            "metrics": {"latencyMs": 5},
        }

    @operation("bedrock-runtime", "ConverseStream")
    def converse_stream(self, asked: dict[str, Any]) -> Response:
        text = self._answer(asked)
        if isinstance(text, Response):
            return text
        deltas = [{"contentBlockIndex": 0, "delta": {"text": piece}} for piece in re.findall(r"\s*\S+\s*", text)]
        events = [
            ("messageStart", {"role": "assistant"}),
            *(("contentBlockDelta", delta) for delta in deltas),
            ("contentBlockStop", {"contentBlockIndex": 0}),
            ("messageStop", {"stopReason": "end_turn"}),
            ("metadata", {"usage": _usage(asked, text), "metrics": {"latencyMs": 5}}),
        ]
        return Response(200, event_stream(events), {"Content-Type": "application/vnd.amazon.eventstream"})

    def _answer(self, asked: dict[str, Any]) -> str | Response:
        model = asked["modelId"]
        if f"{model}:200k" in self.base_models:
            return _retired() if f"{model}:200k" in self.retired else UNTUNED
        arn = {**self.provisioned, **self.deployments}.get(model)
        job = None if arn is None else self._trained(arn)
        if job is None:
            return aws_error(400, "ValidationException", "The provided model identifier is invalid.")
        return Learned(self.contents[job.facts["trainingDataConfig"]["s3Uri"]]).answer(asked["messages"])

    # --- what is known

    def _refusal(self, order: dict[str, Any]) -> Response | None:
        if self.codes:
            return aws_error(*self.codes.pop(0))
        base_model = order["baseModelIdentifier"]
        if base_model in self.retired:
            return _retired()
        if base_model not in self.base_models:
            return aws_error(400, "ValidationException", "The provided model identifier is invalid.")
        if any(_name(job) == order["jobName"] for job in self.jobs.all.values()):
            return aws_error(400, "ValidationException", "The provided job name is currently in use.")
        if any(uri not in self.contents for uri in _data(order)):
            return aws_error(400, "ValidationException", "The provided S3 URI of the data is not there.")
        full = self.jobs.refusal()
        return None if full is None else aws_error(400, "ServiceQuotaExceededException", full)

    def _data_problem(self, order: dict[str, Any]) -> str:
        for uri in _data(order):
            for number, line in enumerate(self.contents[uri].decode().splitlines(), start=1):
                problem = _line_problem(line)
                if problem:
                    return f"Invalid file format: line {number} of {uri}: {problem}"
        if len(self.contents[order["trainingDataConfig"]["s3Uri"]].splitlines()) < FEWEST_EXAMPLES:
            return f"The training dataset has fewer than {FEWEST_EXAMPLES} records."
        return ""

    def _in_full(self, job: FakeJob) -> dict[str, Any]:
        said = self._summary(job)
        model = {"outputModelArn": said.pop("customModelArn")} if "customModelArn" in said else {}
        kept = ("roleArn", "clientRequestToken", "trainingDataConfig", "outputDataConfig", "hyperParameters")
        full = {
            **said,
            **model,
            "outputModelName": said.pop("customModelName"),
            **{name: job.facts[name] for name in kept},
            "validationDataConfig": job.facts.get("validationDataConfig", {"validators": []}),
        }
        full.pop("customModelName", None)
        if said["status"] == "Failed":
            full["failureMessage"] = job.failure
        if said["status"] == "Completed":
            full["trainingMetrics"] = {"trainingLoss": 0.5}
        return full

    def _summary(self, job: FakeJob) -> dict[str, Any]:
        status = self._status(job)
        said = {
            "jobArn": job.job_id,
            "jobName": _name(job),
            "baseModelArn": _base_arn(job.facts["baseModelIdentifier"]),
            "customModelName": job.facts["customModelName"],
            "customizationType": job.facts["customizationType"],
            "status": job.word or status,
            "statusDetails": {
                "validationDetails": _stage("Completed", job.created, job.created),
                "dataProcessingDetails": _stage("Completed", job.created, job.created),
                "trainingDetails": _stage(status, job.started or job.created, job.ended or job.created),
            },
            "creationTime": _time(job.created),
        }
        if status == "Completed":
            said["customModelArn"] = self._model_arn(job)
        if job.ended is not None and status != "Stopping":
            said["endTime"] = _time(job.ended)
        return said

    def _status(self, job: FakeJob) -> str:
        status = _STATUS[self.jobs.state(job.job_id)]
        stopping = status == "Stopped" and self.clock.now < (job.ended or 0.0) + self.stopping_seconds
        return "Stopping" if stopping else status

    def _job(self, name_or_arn: str) -> FakeJob | None:
        return next((job for job in self.jobs.all.values() if name_or_arn in (job.job_id, _name(job))), None)

    def _trained(self, name_or_arn: str) -> FakeJob | None:
        done = [job for job in self.jobs.all.values() if self._status(job) == "Completed"]
        return next((job for job in done if name_or_arn in (self._model_arn(job), job.facts["customModelName"])), None)

    def _model_arn(self, job: FakeJob) -> str:
        return self._arn(f"custom-model/{job.facts['baseModelIdentifier']}", job.facts["customModelName"])

    @staticmethod
    def _arn(kind: str, about: str) -> str:
        return f"arn:aws:bedrock:{REGION}:{ACCOUNT}:{kind}/{sha256(f'{kind} {about}'.encode()).hexdigest()[:12]}"

    def _page(self, name: str, found: list[dict[str, Any]], asked: dict[str, Any]) -> dict[str, Any]:
        first = int(asked.get("nextToken", "0"))
        end = first + min(self.page_size, asked.get("maxResults", self.page_size))
        more = {"nextToken": str(end)} if end < len(found) else {}
        return {name: found[first:end], **more}


def _stage(status: str, began: float, changed: float) -> dict[str, Any]:
    return {"status": status, "creationTime": _time(began), "lastModifiedTime": _time(changed)}


def _uri(request: Request) -> str:
    return f"s3://{request.parts['bucket']}/{request.parts['key']}"


def _data(order: dict[str, Any]) -> list[str]:
    validators = order.get("validationDataConfig", {}).get("validators", [])
    return [order["trainingDataConfig"]["s3Uri"], *(item["s3Uri"] for item in validators)]


def _line_problem(line: str) -> str:
    row = json.loads(line)
    if not {"messages"} <= set(row) <= {"system", "messages"}:
        return f"fields {sorted(row)}"
    roles = [message["role"] for message in row["messages"]]
    if roles != ["user", "assistant"] * (len(roles) // 2) or not roles:
        return f"roles {roles}"
    return ""


def _usage(asked: dict[str, Any], text: str) -> dict[str, int]:
    """One token a word."""
    given = [part.get("text", "") for message in asked["messages"] for part in message["content"]]
    given += [part.get("text", "") for part in asked.get("system", [])]
    read, written = len(" ".join(given).split()), len(text.split())
    return {"inputTokens": read, "outputTokens": written, "totalTokens": read + written}


def _name(job: FakeJob) -> str:
    return str(job.facts["jobName"])


def _base_arn(base_model: str) -> str:
    return f"arn:aws:bedrock:{REGION}::foundation-model/{base_model}"


def _as_dict(tags: list[dict[str, str]]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in tags}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _missing(what: str) -> Response:
    return aws_error(404, "ResourceNotFoundException", f"The {what} that you asked for is not there.")


def _retired() -> Response:
    words = (
        "This model version has reached the end of its life. Please refer to the AWS documentation for more details."
    )
    return aws_error(404, "ResourceNotFoundException", words)


def _s3_error(status: int, code: str, message: str) -> Response:
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>'
    )
    return Response(status, body.encode(), {"Content-Type": "application/xml"})
