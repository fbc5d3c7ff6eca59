"""Mistral's API for files, fine-tuning jobs, models and chat, as its OpenAPI document has it."""

from __future__ import annotations

import json
import uuid
from typing import Any, ClassVar

from tests.servers.base import HttpServer, Request, Response, route
from tests.servers.jobs import FakeJob, Jobs, Limits
from tests.servers.learned import UNTUNED, Learned
from tests.servers.openapi import openapi

KEY = "mistral-planted-key-9d8c7b6a5"
WORDS = {"queued": "QUEUED", "running": "RUNNING", "succeeded": "SUCCESS", "cancelled": "CANCELLED"}
CAPABILITIES = {"completion_chat": True, "fine_tuning": False}
BASE_MODELS = ("open-mistral-7b", "mistral-small-latest", "ministral-8b-latest")
ORGANISATION = "5010731d"
MISTAKE = "whole: 'data' is a required property"
"""Of the document: it asks for `data` in a chat completion, where there is none, nor a property of that name."""


class MistralServer(HttpServer):
    """`limits` are the account's; `retired` makes the training API answer 410, as it does since July 2026."""

    submit_route: ClassVar[tuple[str, str]] = ("POST", "/v1/fine_tuning/jobs")

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__()
        self.jobs = Jobs(self.clock, limits or Limits())
        self.files: dict[str, dict[str, Any]] = {}
        self.contents: dict[str, bytes] = {}
        self.archived: set[str] = set()
        self.mute: set[str] = set()
        """Models that answer with nothing."""
        self.known_models: dict[str, str] = {}
        """Fine-tuned models from before: ID → base model."""
        self.known_training: dict[str, bytes] = {}
        """What they were trained on, where they are to answer so."""
        self.retired = False
        self.fails_as = "FAILED_VALIDATION"
        """Or FAILED: where a job fails, in the validation or later."""
        self.gives_reasons = True
        """Otherwise the events of a failed job have no data, as the document allows."""
        self.strangers: list[dict[str, Any]] = []
        """Jobs of others, listed as they are; the document may not know their kind."""

    def authorize(self, request: Request) -> Response | None:
        return None if request.headers["Authorization"] == f"Bearer {KEY}" else self.error(401, "Unauthorized")

    def error(self, status: int, message: str) -> Response:
        body = {
            "object": "error",
            "message": message,
            "type": "invalid_request_error",
            "param": None,
            "code": str(status),
        }
        return Response(status, body)

    def observe(self, request: Request, response: Response) -> None:
        if self.strangers or any(job.word for job in self.jobs.all.values()):
            return  # a test plants what the document does not have
        found = openapi("mistral").violations(request, response)
        self.violations += [said for said in found if not said.endswith(MISTAKE)]

    # --- files

    @route("POST", "/v1/files")
    def upload(self, request: Request) -> Response:
        form = request.form()
        name, content = form["file"]
        file_id = self._uuid()
        self.contents[file_id] = content
        self.files[file_id] = {
            "id": file_id,
            "object": "file",
            "bytes": len(content),
            "created_at": int(self.clock.now),
            "filename": name,
            "purpose": form["purpose"][1].decode(),
            "sample_type": "instruct",
            "source": "upload",
            "num_lines": content.count(b"\n"),
        }
        return Response(200, self.files[file_id])

    @route("GET", "/v1/files")
    def list_files(self, request: Request) -> Response:
        found = [file for file in self.files.values() if request.query.get("search", "") in file["filename"]]
        page, size = int(request.query.get("page", 0)), int(request.query.get("page_size", 100))
        return Response(200, {"object": "list", "data": found[page * size :][:size], "total": len(found)})

    # --- jobs

    @route("POST", "/v1/fine_tuning/jobs")
    def submit(self, request: Request) -> Response:
        if self.retired:
            return self.error(410, "Fine-tuning jobs can no longer be created.")
        order = request.json
        if order["model"] not in BASE_MODELS:
            return Response(422, {"detail": "Model not available for this type of fine-tuning (completion)."})
        missing = [file["file_id"] for file in order["training_files"] if file["file_id"] not in self.files]
        if missing:
            return self.error(404, f"File {missing[0]} not found")
        job_id = self._uuid()
        return Response(200, self.said(self.jobs.accept(job_id, **order)))

    @route("GET", "/v1/fine_tuning/jobs")
    def list_jobs(self, request: Request) -> Response:
        suffix, model = request.query.get("suffix"), request.query.get("model")
        found = [job for job in self.jobs.listed() if suffix in (None, job.facts.get("suffix"))]
        found = [job for job in found if model in (None, job.facts["model"])]
        page, size = int(request.query.get("page", 0)), int(request.query.get("page_size", 100))
        data = [*([] if suffix else self.strangers), *map(self.said, found)]
        return Response(200, {"object": "list", "data": data[page * size :][:size], "total": len(data)})

    @route("GET", "/v1/fine_tuning/jobs/(?P<job>[^/]+)")
    def job(self, request: Request) -> Response:
        job = self.jobs.all.get(request.parts["job"])
        return Response(200, self._detailed(job)) if job else self.error(404, "Job not found")

    @route("POST", "/v1/fine_tuning/jobs/(?P<job>[^/]+)/cancel")
    def cancel(self, request: Request) -> Response:
        job = self.jobs.all.get(request.parts["job"])
        if job is None:
            return self.error(404, "Job not found")
        if self.jobs.state(job.job_id) not in ("queued", "running"):
            return self.error(400, "Job cannot be cancelled")
        self.jobs.cancel(job.job_id)
        return Response(200, self._detailed(job))

    # --- models

    @route("GET", "/v1/models/(?P<model>[^/]+)")
    def model(self, request: Request) -> Response:
        model = request.parts["model"]
        if model in BASE_MODELS:
            return Response(200, {"id": model, "object": "model", "type": "base", "capabilities": CAPABILITIES})
        root, job = self._trained(model)
        if root is None:
            return self.error(404, f"Model {model} not found")
        card = {"id": model, "object": "model", "type": "fine-tuned", "capabilities": CAPABILITIES, "root": root}
        return Response(200, {**card, "job": job, "archived": model in self.archived})

    @route("POST", "/v1/fine_tuning/models/(?P<model>[^/]+)/archive")
    def archive(self, request: Request) -> Response:
        if self._trained(request.parts["model"])[0] is None:
            return self.error(404, "Model not found")
        self.archived.add(request.parts["model"])
        return Response(200, {"id": request.parts["model"], "object": "model", "archived": True})

    # --- chat

    @route("POST", "/v1/chat/completions")
    def chat(self, request: Request) -> Response:
        asked = request.json
        answer = self._answer(asked["model"], asked["messages"])
        if answer is None:
            return self.error(404, f"Model {asked['model']} not found")
        answer = "" if asked["model"] in self.mute else answer
        whole = {"id": f"chat-{self.next_number()}", "model": asked["model"], "created": int(self.clock.now)}
        usage = {"prompt_tokens": len(str(asked["messages"])) // 4, "completion_tokens": len(answer) // 4 + 1}
        usage["total_tokens"] = sum(usage.values())
        if asked.get("stream"):
            return _streamed({**whole, "object": "chat.completion.chunk"}, answer, usage)
        message = {"role": "assistant", "content": answer, "tool_calls": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return Response(200, {**whole, "object": "chat.completion", "choices": [choice], "usage": usage})

    def _answer(self, model: str, messages: list[dict[str, Any]]) -> str | None:
        if model in self.known_training:
            return Learned(self.known_training[model]).answer(messages)
        if model in BASE_MODELS or model in self.known_models:
            return UNTUNED
        _, job_id = self._trained(model)
        if job_id is None:
            return None
        file_id = self.jobs.all[job_id].facts["training_files"][0]["file_id"]
        return Learned(self.contents[file_id]).answer(messages)

    def _trained(self, model: str) -> tuple[str | None, str | None]:
        """(base model, job ID) of a fine-tuned model."""
        if model in self.known_models:
            return self.known_models[model], str(uuid.UUID(int=0))
        for job in self.jobs.all.values():
            if self.jobs.state(job.job_id) == "succeeded" and self._model_id(job) == model:
                return job.facts["model"], job.job_id
        return None, None

    def _model_id(self, job: FakeJob) -> str:
        suffix = [job.facts["suffix"]] if job.facts.get("suffix") else []
        return ":".join(["ft", job.facts["model"], ORGANISATION, "20260921", *suffix, job.job_id.split("-")[0]])

    def said(self, job: FakeJob) -> dict[str, Any]:
        """The job as lists show it."""
        state = self.jobs.state(job.job_id)
        word = "VALIDATING" if state == "running" and job.failure else WORDS.get(state, self.fails_as)
        changed = next(at for at in (job.ended, job.started, job.created) if at is not None)
        tokens = sum(len(self.contents[file["file_id"]]) // 4 for file in job.facts["training_files"])
        return {
            "id": job.job_id,
            "object": "job",
            "job_type": "completion",
            "auto_start": True,
            "model": job.facts["model"],
            "status": job.word or word,
            "created_at": int(job.created),
            "modified_at": int(changed),
            "training_files": [file["file_id"] for file in job.facts["training_files"]],
            "validation_files": job.facts.get("validation_files") or [],
            "fine_tuned_model": self._model_id(job) if state == "succeeded" else None,
            "suffix": job.facts.get("suffix"),
            "trained_tokens": tokens if state == "succeeded" else None,
            "hyperparameters": job.facts["hyperparameters"],
            "metadata": {
                "cost": 4.0,
                "cost_currency": "USD",
                "data_tokens": tokens,
                "expected_duration_seconds": int(job.duration),
            },
        }

    def _detailed(self, job: FakeJob) -> dict[str, Any]:
        said = self.said(job)
        events = [{"name": "status-updated", "data": {"status": "QUEUED"}, "created_at": said["created_at"]}]
        if job.started is not None and not job.failure:
            data: dict[str, Any] = {"status": "RUNNING"}
            events.insert(0, {"name": "status-updated", "data": data, "created_at": int(job.started)})
        if job.ended is not None or job.failure:
            data = {"status": said["status"], **({"error": job.failure} if said["status"].startswith("FAILED") else {})}
            event = {"name": "status-updated", "created_at": said["modified_at"]}
            events.insert(0, {**event, "data": data} if self.gives_reasons else event)
        metrics = {"train_loss": 0.5, "valid_loss": 0.6}
        point = {"metrics": metrics, "step_number": 10, "created_at": said["modified_at"]}
        return {**said, "events": events, "checkpoints": [point] if said["status"] == "SUCCESS" else []}

    def _uuid(self) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, str(self.next_number())))


def _streamed(chunk: dict[str, Any], answer: str, usage: dict[str, int]) -> Response:
    """Server-sent events, a word at a time."""
    pieces = [piece for word in answer.split(" ") for piece in (" ", word)][1:]
    deltas = [({"role": "assistant", "content": ""}, None), *(({"content": piece}, None) for piece in pieces)]
    chunks = [{**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": end}]} for delta, end in deltas]
    chunks.append(
        {**chunk, "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}], "usage": usage}
    )
    lines = [f"data: {json.dumps(item)}\n\n" for item in chunks]
    return Response(200, "".join([*lines, "data: [DONE]\n\n"]).encode(), {"Content-Type": "text/event-stream"})
