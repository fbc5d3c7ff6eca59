"""Hugging Face Jobs over the Hub's repositories, as huggingface_hub 2.4 calls them (hf_api.py, _jobs_api.py).

Jobs are virtual: they end by the clock, and leave in the model repository what training/hub_job.py would. A test that
runs a job's command for real ends it with `end`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from tests.servers.base import Request, Response, route
from tests.servers.hub import HubServer
from tests.servers.jobs import FakeJob, Jobs

JOBS = r"/api/jobs/(?P<namespace>[^/]+)"
LABEL = re.compile(r"[A-Za-z0-9_-]{1,100}")  # HfApi.update_job_labels
STAGES = {
    "queued": "SCHEDULING",
    "running": "RUNNING",
    "succeeded": "COMPLETED",
    "failed": "ERROR",
    "cancelled": "CANCELED",
}
EXITED = "Job failed with exit code: 1. Reason: Error"
CENTS_A_MINUTE = {"cpu-basic": 0.0167, "a10g-small": 1.6667, "a10g-large": 2.5}


class HuggingFaceServer(HubServer):
    """Jobs of one account."""

    submit_route: ClassVar[tuple[str, str]] = ("POST", r"/api/jobs/[^/]+")

    def __init__(self) -> None:
        super().__init__()
        self.jobs = Jobs(self.clock)
        self.page_size = 100
        self.sent: dict[str, dict[str, Any]] = {}
        """Job ID → the job as it was posted, secrets included."""
        self._settled: set[str] = set()

    def end(self, job_id: str, exit_code: int) -> None:
        """A job whose command was run for real ends now; what it left is what it left."""
        job = self.jobs.all[job_id]
        job.ended, job.failure = self.clock.now, f"Job failed with exit code: {exit_code}" if exit_code else ""
        self._settled.add(job_id)

    def _handled(self, request: Request) -> Response:
        for job in self.jobs.all.values():
            self._settle(job)
        return super()._handled(request)

    def _settle(self, job: FakeJob) -> None:
        """Once: what a job that has ended leaves in its repository."""
        state = self.jobs.state(job.job_id)
        if job.job_id in self._settled or state not in ("succeeded", "failed"):
            return
        self._settled.add(job.job_id)
        config = json.loads(job.facts["environment"]["GITUNE_CONFIG"])
        outcome = {"status": "succeeded", "message": "", "key": config["key"], "job_id": job.job_id}
        command = job.facts["command"]
        repository = command[command.index("--repository") + 1]
        if state == "succeeded":
            adapter = {"adapter_model.safetensors": b"weights", "adapter_config.json": b"{}"}
            facts = json.dumps({"base_model": config["base_model"], "key": config["key"]}).encode()
            files = {**adapter, "training.json": facts, "outcome.json": json.dumps(outcome).encode()}
            self.add_repo("models", repository, files)
        elif _said_by_script(job.failure):
            outcome |= {"status": "rejected", "message": job.failure}
            self.add_repo("models", repository, {"outcome.json": json.dumps(outcome).encode()})

    @route("GET", "/api/jobs/hardware")
    def hardware(self, request: Request) -> Response:
        rows = [
            {
                "name": name,
                "prettyName": name,
                "cpu": "4 vCPU",
                "ram": "15 GB",
                "ephemeralStorage": "110 GB",
                "accelerator": None,
                "unitCostMicroUSD": round(cents * 10_000),
                "unitCostUSD": cents / 100,
                "unitLabel": "minute",
            }
            for name, cents in CENTS_A_MINUTE.items()
        ]
        return Response(200, rows)

    @route("POST", JOBS)
    def run(self, request: Request) -> Response:
        spec = request.json
        labels = spec.get("labels", {})
        if any(not LABEL.fullmatch(text) for pair in labels.items() for text in pair):
            return self.error(400, "Invalid label")
        if spec["flavor"] not in CENTS_A_MINUTE:
            return self.error(400, f"Invalid flavor '{spec['flavor']}'")
        if any(self.repos.get((f"{v['type']}s", v["source"])) is None for v in spec.get("volumes", [])):  # type: ignore[call-overload]
            return self.error(404, "Volume source not found")
        number = self.next_number()
        facts = {**spec, "secrets": sorted(spec.get("secrets", {})), "namespace": request.parts["namespace"]}
        job = self.jobs.accept(f"{number:024x}", **facts)
        self.sent[job.job_id] = spec
        return Response(200, self._shown(job))

    @route("GET", JOBS)
    def list(self, request: Request) -> Response:
        wanted = request.query.get("label")
        jobs = [job for job in self.jobs.listed() if job.facts["namespace"] == request.parts["namespace"]]
        if wanted is not None:
            jobs = [job for job in jobs if wanted in {f"{k}={v}" for k, v in job.facts.get("labels", {}).items()}]
        start = int(request.query.get("cursor", 0))
        page, headers = jobs[start : start + self.page_size], {}
        if len(jobs) > start + self.page_size:
            label = f"&label={wanted}" if wanted else ""
            following = f"{self.url}{request.path}?cursor={start + self.page_size}{label}"
            headers = {"Link": f'<{following}>; rel="next"'}
        return Response(200, [self._shown(job) for job in page], headers)

    @route("GET", rf"{JOBS}/(?P<job>(?!hardware)[^/]+)")
    def inspect(self, request: Request) -> Response:
        job = self.jobs.all.get(request.parts["job"])
        return self.error(404, "Job not found") if job is None else Response(200, self._shown(job))

    @route("GET", rf"{JOBS}/(?P<job>[^/]+)/logs")
    def logs(self, request: Request) -> Response:
        """Server-sent events, as the Hub has them."""
        job = self.jobs.all.get(request.parts["job"])
        if job is None:
            return self.error(404, "Job not found")
        told = [(job.created, f"===== Job started at {_time(job.created)} =====")]
        if job.started is not None:
            told.append((job.started, "Installed 68 packages"))
        if job.ended is not None:
            told.append((job.ended, job.failure or "the adapter is on the Hub"))
        events = [f"data: {json.dumps({'timestamp': _time(at), 'data': line})}\n\n" for at, line in told]
        return Response(200, "".join(events).encode(), {"Content-Type": "text/event-stream"})

    @route("POST", rf"{JOBS}/(?P<job>[^/]+)/cancel")
    def cancel(self, request: Request) -> Response:
        job = self.jobs.all.get(request.parts["job"])
        if job is None:
            return self.error(404, "Job not found")
        if self.jobs.state(job.job_id) not in ("queued", "running"):
            return self.error(400, "Job is not running")
        self.jobs.cancel(job.job_id)
        return Response(200, self._shown(job))

    def _shown(self, job: FakeJob) -> dict[str, Any]:
        state = self.jobs.state(job.job_id)
        message = EXITED if _said_by_script(job.failure) else job.failure
        now = job.ended if job.ended is not None else self.clock.now
        running = None if job.started is None else int(now - job.started)
        names = ("command", "environment", "secrets", "flavor", "labels", "dockerImage", "volumes")
        return {
            "id": job.job_id,
            "createdAt": _time(job.created),
            "startedAt": _time(job.started),
            "finishedAt": _time(job.ended),
            "status": {"stage": job.word or STAGES[state], "message": message if state == "failed" else None},
            "durations": {"schedulingSecs": 0, "runningSecs": running, "totalSecs": int(now - job.created)},
            "owner": {"id": "5e9ecfc04957053f60648a3e", "name": job.facts["namespace"], "type": "user"},
            **{name: job.facts.get(name) for name in names},
        }


def _said_by_script(words: str) -> bool:
    """Whether the training script fails with these words, in outcome.json; the platform knows only its exit code."""
    return words.startswith("Invalid")


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def run_job(
    server: HuggingFaceServer, job_id: str, folder: Path, training: str | None = None
) -> subprocess.CompletedProcess[str]:
    """What the Hub does with a job: mount its volumes, set its environment, run its command. `uv` is this Python.

    `training` is a line of shell in place of sft.py; $7 is the output folder.
    """
    from huggingface_hub import snapshot_download

    spec = server.sent[job_id]
    (volume,) = spec["volumes"]
    mount, tools = folder / "mount", folder / "bin"
    snapshot_download(
        volume["source"], repo_type=volume["type"], endpoint=server.url, token=server.token, local_dir=mount
    )
    tools.mkdir(exist_ok=True)
    instead = "" if training is None else f'case "$1" in *sft-*) {training};; esac\n'
    (tools / "uv").write_text(f'#!/bin/sh\nshift\n{instead}exec {sys.executable} "$@"\n')
    (tools / "uv").chmod(0o755)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
        **spec["environment"],
        **spec["secrets"],
        "JOB_ID": job_id,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "HF_HOME": str(folder / "hf-home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    command = [part.replace(f"{volume['mountPath']}/", f"{mount}/") for part in spec["command"]]
    process = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    server.end(job_id, process.returncode)
    return process
