"""Ray's dashboard with virtual jobs: they end by the clock, and leave in the store what training/store_job.py would.

For tests that need hundreds of clusters. What is real is in ray.py; the same conformance suite has passed both sides of
what is used here: IDs that the caller chooses, refused when they are taken.
"""

from __future__ import annotations

import json
import shlex
from typing import Any, ClassVar

from gitune.training.store_job import Store
from tests.servers.base import HttpServer, Request, Response, route
from tests.servers.jobs import FakeJob, Jobs, Limits

_WORDS = {"queued": "PENDING", "running": "RUNNING", "succeeded": "SUCCEEDED", "failed": "FAILED"}


class RayServer(HttpServer):
    """One cluster."""

    submit_route: ClassVar[tuple[str, str]] = ("POST", "/api/jobs/")

    def __init__(self) -> None:
        super().__init__()
        self.jobs = Jobs(self.clock, Limits(excess="queue"))
        self._settled: set[str] = set()

    @route("POST", "/api/jobs/")
    def submit(self, request: Request) -> Response:
        order = request.json
        job_id = order["submission_id"]
        if job_id in self.jobs.all:
            return Response(500, f"ValueError: Job with submission_id {job_id} already exists.".encode())
        self.jobs.accept(job_id, **order)
        return Response(200, {"submission_id": job_id, "job_id": job_id})

    @route("GET", "/api/jobs/")
    def list_jobs(self, request: Request) -> Response:
        return Response(200, [self._shown(job) for job in self.jobs.listed()])

    @route("GET", "/api/jobs/(?P<job>[^/]+)")
    def job(self, request: Request) -> Response:
        job = self.jobs.all.get(request.parts["job"])
        return Response(404, b"Job does not exist") if job is None else Response(200, self._shown(job))

    @route("GET", "/api/jobs/(?P<job>[^/]+)/logs")
    def logs(self, request: Request) -> Response:
        job = self.jobs.all.get(request.parts["job"])
        if job is None:
            return Response(404, b"Job does not exist")
        words = "step 1\nstep 2\n" if self.jobs.state(job.job_id) == "succeeded" else "step 1\nstep"
        return Response(200, {"logs": words})

    def _shown(self, job: FakeJob) -> dict[str, Any]:
        state = self.jobs.state(job.job_id)
        if state == "succeeded" and job.job_id not in self._settled:
            self._settled.add(job.job_id)
            self._leave_outcome(job)
        return {
            "type": "SUBMISSION",
            "submission_id": job.job_id,
            "status": _WORDS[state],
            "entrypoint": job.facts["entrypoint"],
            "metadata": job.facts["metadata"],
            "start_time": int(job.created * 1000),
            "end_time": None if job.ended is None else int(job.ended * 1000),
            "driver_exit_code": 0 if state == "succeeded" else None,
        }

    def _leave_outcome(self, job: FakeJob) -> None:
        url, name, submission = shlex.split(job.facts["entrypoint"])[-3:]
        store = Store.open(url)
        config = json.loads(store.read(f"jobs/{name}/config.json") or b"{}")
        facts = {key: config[key] for key in ("key", "base_model", "method")}
        end = {"status": "succeeded", "submission": submission, "seconds": job.duration, "ended_at": job.ended}
        store.write_json(f"jobs/{name}/outcome.json", {**end, **facts, "files": {}, "training": facts})
