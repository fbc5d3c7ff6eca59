"""The API of the invented vendor in docs/add-a-provider.md."""

from __future__ import annotations

from typing import Any, ClassVar

from tests.servers.base import HttpServer, Request, Response, route
from tests.servers.jobs import Jobs

KEY = "acme-planted-key-1f2e3d"
WORDS = {"queued": "waiting", "running": "training", "succeeded": "done", "failed": "failed", "cancelled": "stopped"}


class AcmeServer(HttpServer):
    """Jobs carry the caller's key; a key with a live or finished job is that job."""

    submit_route: ClassVar[tuple[str, str]] = ("POST", "/jobs")

    def __init__(self) -> None:
        super().__init__()
        self.jobs = Jobs(self.clock)
        self.data: dict[str, bytes] = {}
        self.archived: set[str] = set()

    def authorize(self, request: Request) -> Response | None:
        return None if request.headers["Authorization"] == f"Bearer {KEY}" else self.error(401, "who are you?")

    @route("HEAD", "/data/(?P<name>.+)")
    def has_data(self, request: Request) -> Response:
        return Response(200) if request.path in self.data else Response(404)

    @route("PUT", "/data/(?P<name>.+)")
    def put_data(self, request: Request) -> Response:
        self.data[request.path] = request.body
        return Response(200, {})

    @route("POST", "/jobs")
    def submit(self, request: Request) -> Response:
        order = request.json
        for job in self.jobs.all.values():
            if job.facts["key"] == order["key"] and self.jobs.state(job.job_id) not in ("failed", "cancelled"):
                return Response(200, self._said(job.job_id))
        job_id = f"job-{self.next_number()}"
        self.jobs.accept(job_id, **order)
        return Response(200, self._said(job_id))

    @route("GET", "/jobs")
    def find(self, request: Request) -> Response:
        newest: dict[str, Any] = {}
        for job in reversed(self.jobs.listed()):
            newest[job.facts["key"]] = self._said(job.job_id)
        return Response(200, {"jobs": [newest[key] for key in request.query["keys"].split(",") if key in newest]})

    @route("POST", "/jobs/(?P<job>[^/]+)/stop")
    def stop(self, request: Request) -> Response:
        if request.parts["job"] not in self.jobs.all:
            return self.error(404, "no such job")
        self.jobs.cancel(request.parts["job"])
        return Response(200, {})

    @route("GET", "/models/(?P<model>[^/]+)")
    def model(self, request: Request) -> Response:
        job = self._trained(request.parts["model"])
        if job is None:
            return self.error(404, "no such model")
        return Response(
            200, {"base_model": job.facts["base_model"], "archived": request.parts["model"] in self.archived}
        )

    @route("POST", "/models/(?P<model>[^/]+)/archive")
    def archive(self, request: Request) -> Response:
        if self._trained(request.parts["model"]) is None:
            return self.error(404, "no such model")
        self.archived.add(request.parts["model"])
        return Response(200, {})

    def _trained(self, model: str) -> Any:
        job_id = model.removeprefix("acme-model-")
        done = job_id in self.jobs.all and self.jobs.state(job_id) == "succeeded"
        return self.jobs.all[job_id] if done else None

    def _said(self, job_id: str) -> dict[str, Any]:
        job, state = self.jobs.all[job_id], self.jobs.state(job_id)
        said = {"id": job_id, "key": job.facts["key"], "status": job.word or WORDS[state], "reason": job.failure}
        return {**said, "model": f"acme-model-{job_id}"} if state == "succeeded" else said
