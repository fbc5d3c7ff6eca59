"""OpenAI's API for files, fine-tuning jobs, models and chat, as its OpenAPI document has it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

from tests.servers.base import HttpServer, Request, Response, route
from tests.servers.jobs import FakeJob, Jobs, Limits
from tests.servers.learned import UNTUNED, Learned
from tests.servers.openapi import openapi

KEY = "sk-planted-openai-key"
BASE_MODELS = ("gpt-4o-mini-2024-07-18", "gpt-4.1-nano-2025-04-14")
PREFIX = "/v1"


class OpenAIServer(HttpServer):
    """`url` ends with /v1, as OPENAI_BASE_URL has it. Jobs beyond the limit wait, as OpenAI's do."""

    submit_route: ClassVar[tuple[str, str]] = ("POST", "/v1/fine_tuning/jobs")

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__()
        self.jobs = Jobs(self.clock, limits or Limits(excess="queue"))
        self.files: dict[str, dict[str, Any]] = {}
        self.contents: dict[str, bytes] = {}
        self.ignores_filters = False
        """As some servers of the protocol do."""
        self.is_lean = False
        """As LLMariner has jobs and files: no metadata, nothing for null, large numbers as text, short suffixes."""
        self.shows_suffix = False
        """A lean job still has Azure's `user_provided_suffix`."""
        self.gives_reasons = True
        """Otherwise a failed job's `error` is empty."""

    @property
    def url(self) -> str:
        return f"{super().url}{PREFIX}"

    def authorize(self, request: Request) -> Response | None:
        if request.headers["Authorization"] == f"Bearer {KEY}":
            return None
        return self.error(401, "Incorrect API key provided")

    def error(self, status: int, message: str) -> Response:
        code = {401: "invalid_api_key", 429: "rate_limit_exceeded"}.get(status)
        return Response(status, {"error": {"message": message, "type": "error", "param": None, "code": code}})

    def observe(self, request: Request, response: Response) -> None:
        if self.is_lean or any(job.word for job in self.jobs.all.values()):
            return  # a test plants what the document does not have
        self.violations += openapi("openai").violations(request, response, prefix=PREFIX)

    # --- files

    @route("POST", "/v1/files")
    def upload(self, request: Request) -> Response:
        form = request.form()
        name, content = form["file"]
        file_id = f"file-{self.next_number():024d}"
        self.contents[file_id] = content
        self.files[file_id] = {
            "id": file_id,
            "object": "file",
            "bytes": len(content),
            "created_at": int(self.clock.now),
            "filename": name,
            "purpose": form["purpose"][1].decode(),
            "status": "processed",
        }
        return Response(200, self.files[file_id])

    @route("GET", "/v1/files")
    def list_files(self, request: Request) -> Response:
        lean = [{**file, "bytes": str(file["bytes"])} for file in self.files.values()]
        return self._page(lean if self.is_lean else list(self.files.values()), request)

    # --- jobs

    @route("POST", "/v1/fine_tuning/jobs")
    def submit(self, request: Request) -> Response:
        order = request.json
        if order["model"] not in BASE_MODELS:
            return self.error(400, f"Model {order['model']} is not available for fine-tuning or does not exist.")
        if order["training_file"] not in self.files:
            return self.error(400, f"invalid training_file: {order['training_file']}")
        if self.is_lean and len(order["suffix"]) > 18:
            return self.error(400, "suffix is too long")
        return Response(200, self._said(self.jobs.accept(f"ftjob-{self.next_number():024d}", **order)))

    @route("GET", "/v1/fine_tuning/jobs")
    def list_jobs(self, request: Request) -> Response:
        filters = {
            k[9:-1]: v for k, v in request.query.items() if k.startswith("metadata[") and not self.ignores_filters
        }
        found = [
            self._said(job)
            for job in self.jobs.listed()
            if all((job.facts.get("metadata") or {}).get(name) == value for name, value in filters.items())
        ]
        return self._page(found, request)

    @route("GET", "/v1/fine_tuning/jobs/(?P<job>[^/]+)")
    def job(self, request: Request) -> Response:
        job = self.jobs.all.get(request.parts["job"])
        return Response(200, self._said(job)) if job else self.error(404, "Could not find fine tune")

    @route("GET", "/v1/fine_tuning/jobs/(?P<job>[^/]+)/events")
    def events(self, request: Request) -> Response:
        job = self.jobs.all.get(request.parts["job"])
        if job is None:
            return self.error(404, "Could not find fine tune")
        told = [(job.created, "info", f"Created fine-tuning job: {job.job_id}")]
        if job.started is not None:
            told.append((job.started, "info", "Fine-tuning job started"))
        if job.ended is not None:
            level = "error" if job.failure else "info"
            told.append((job.ended, level, job.failure or "The job has successfully completed"))
        shown = [
            {
                "id": f"ftevent-{job.job_id}-{number}",
                "object": "fine_tuning.job.event",
                "created_at": int(at),
                "level": level,
                "message": message,
                "type": "message",
                "data": {},
            }
            for number, (at, level, message) in enumerate(told)
        ]
        return self._page(shown[::-1], request)

    @route("POST", "/v1/fine_tuning/jobs/(?P<job>[^/]+)/cancel")
    def cancel(self, request: Request) -> Response:
        job = self.jobs.all.get(request.parts["job"])
        if job is None:
            return self.error(404, "Could not find fine tune")
        if self.jobs.state(job.job_id) not in ("queued", "running"):
            return self.error(400, "Job has already completed")
        self.jobs.cancel(job.job_id)
        return Response(200, self._said(job))

    # --- models and chat

    @route("GET", "/v1/models/(?P<model>[^/]+)")
    def model(self, request: Request) -> Response:
        model = request.parts["model"]
        if model not in BASE_MODELS and self._trained(model) is None:
            return self.error(404, f"The model '{model}' does not exist")
        return Response(200, {"id": model, "object": "model", "created": int(self.clock.now), "owned_by": "acme-org"})

    @route("POST", "/v1/chat/completions")
    def chat(self, request: Request) -> Response:
        asked = request.json
        job = self._trained(asked["model"])
        if job is None and asked["model"] not in BASE_MODELS:
            return self.error(404, f"The model '{asked['model']}' does not exist")
        answer = UNTUNED
        if job is not None:
            answer = Learned(self.contents[job.facts["training_file"]]).answer(asked["messages"])
        whole = {"id": f"chatcmpl-{self.next_number()}", "model": asked["model"], "created": int(self.clock.now)}
        usage = {"prompt_tokens": len(str(asked["messages"])) // 4, "completion_tokens": len(answer) // 4 + 1}
        usage["total_tokens"] = sum(usage.values())
        if asked.get("stream"):
            return _streamed({**whole, "object": "chat.completion.chunk"}, answer)
        message = {"role": "assistant", "content": answer, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        return Response(200, {**whole, "object": "chat.completion", "choices": [choice], "usage": usage})

    def _page(self, items: Sequence[dict[str, Any]], request: Request) -> Response:
        after, limit = request.query.get("after"), int(request.query.get("limit", 20))
        start = next((n + 1 for n, item in enumerate(items) if item["id"] == after), 0)
        page = items[start : start + limit]
        ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": "", "last_id": ""}
        return Response(200, {"object": "list", "data": page, "has_more": start + limit < len(items), **ends})

    def _trained(self, model: str) -> FakeJob | None:
        for job in self.jobs.all.values():
            if self.jobs.state(job.job_id) == "succeeded" and self._model_id(job) == model:
                return job
        return None

    def _model_id(self, job: FakeJob) -> str:
        return f"ft:{job.facts['model']}:acme-org:{job.facts.get('suffix')}:{job.job_id[-8:]}"

    def _reason(self, code: str, job: FakeJob) -> dict[str, Any]:
        return {"code": code, "message": job.failure, "param": None} if self.gives_reasons else {}

    def _said(self, job: FakeJob) -> dict[str, Any]:
        whole = self._whole(job)
        suffix = {"user_provided_suffix": job.facts.get("suffix")} if self.shows_suffix else {}
        return {**_lean(whole), **suffix} if self.is_lean else whole

    def _whole(self, job: FakeJob) -> dict[str, Any]:
        state = self.jobs.state(job.job_id)
        values = job.facts["method"]["supervised"]["hyperparameters"]
        epochs = values["n_epochs"] if isinstance(values.get("n_epochs"), int) else 3
        tokens = len(self.contents[job.facts["training_file"]]) // 4 * epochs
        code = "exceeded_quota" if "free trial" in job.failure else "invalid_training_file"
        code = "concurrent_limit" if "concurrently" in job.failure else code
        return {
            "id": job.job_id,
            "object": "fine_tuning.job",
            "model": job.facts["model"],
            "created_at": int(job.created),
            "finished_at": None if job.ended is None else int(job.ended),
            "fine_tuned_model": self._model_id(job) if state == "succeeded" else None,
            "organization_id": "org-acme",
            "result_files": [],
            "status": job.word or state,
            "validation_file": job.facts.get("validation_file"),
            "training_file": job.facts["training_file"],
            "hyperparameters": {"n_epochs": epochs},
            "trained_tokens": tokens if state == "succeeded" else None,
            "error": self._reason(code, job) if state == "failed" else None,
            "seed": 7,
            "method": job.facts["method"],
            "metadata": job.facts.get("metadata"),
        }


def _lean(said: dict[str, Any]) -> dict[str, Any]:
    """As protobuf's JSON has it: 64-bit numbers are text, what is not set is empty or not there."""
    kept = {name: value for name, value in said.items() if value is not None and name != "metadata"}
    word = {"cancelled": "canceled", "queued": "creating"}.get(said["status"], said["status"])
    times = {name: str(said[name] or 0) for name in ("created_at", "finished_at")}
    return {**kept, **times, "fine_tuned_model": said["fine_tuned_model"] or "", "status": word}


def _streamed(chunk: dict[str, Any], answer: str) -> Response:
    """Server-sent events, a word at a time."""
    pieces = [piece for word in answer.split(" ") for piece in (" ", word)][1:]
    chunks = [
        {**chunk, "choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]} for piece in pieces
    ]
    chunks.append({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    lines = [f"data: {json.dumps(item)}\n\n" for item in chunks]
    return Response(200, "".join([*lines, "data: [DONE]\n\n"]).encode(), {"Content-Type": "text/event-stream"})
