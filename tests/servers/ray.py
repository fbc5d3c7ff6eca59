"""A real Ray cluster on this machine, secured with a token, and a faulty wire to its dashboard."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import psutil

from tests.servers.base import Request, Response
from tests.servers.proxy import Proxy

TOKEN = "planted-secret-3b7d2f0c9a8e4d1f"
_START_SECONDS = 90.0
_PORTS = (
    "port",
    "dashboard-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "ray-client-server-port",
    "metrics-export-port",
    "runtime-env-agent-port",
)


@contextlib.contextmanager
def ray_cluster(cpus: int = 16) -> Iterator[str]:
    """The dashboard's URL of a cluster of its own. Its CPUs are what Ray counts, not what the machine has."""
    folder = Path(tempfile.mkdtemp(prefix="ray"))  # short: Ray puts Unix sockets below it
    ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    command += ["--node-ip-address", "127.0.0.1", "--dashboard-host", "127.0.0.1", "--temp-dir", str(folder)]
    command += ["--num-cpus", str(cpus), "--object-store-memory", "80000000", "--include-log-monitor", "false"]
    command += [part for name, port in ports.items() for part in (f"--{name}", str(port))]
    with (folder / "start.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{ports['dashboard-port']}"
        _wait(url, process, folder / "start.log")
        yield url
    finally:
        _stop(process)
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    request = urllib.request.Request(f"{url}/api/jobs/", headers={"Authorization": f"Bearer {TOKEN}"})
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=5):
            return
        time.sleep(0.2)
    raise AssertionError(f"Ray did not start: {log.read_text(errors='replace')[-3000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """`ray stop` would stop every cluster of the machine. Ended like this, Ray ends its own processes."""
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs([psutil.Process(process.pid), *family] if family else [], timeout=10)
    for each in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()


class RayProxy(Proxy):
    """The dashboard's REST API, as one test sees it."""

    submit_route: ClassVar[tuple[str, str]] = ("POST", "/api/jobs/")

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.accepted: list[str] = []
        """Submission IDs of the jobs that the cluster took."""
        self.lagging = False
        self.forgetful = False
        """As after a restart of the head: no job of before is known."""
        self.says: dict[str, dict[str, Any]] = {}
        """By submission ID: fields that are told in place of the true ones."""
        self._unlisted: set[str] = set()

    def changed(self, request: Request, response: Response) -> Response:
        if request.path == "/api/jobs/" and request.method == "POST" and response.status == 200:
            self.accepted.append(json.loads(response.body)["submission_id"])
            self._unlisted |= {self.accepted[-1]} if self.lagging else set()
        elif request.path == "/api/jobs/" and request.method == "GET" and response.status == 200:
            jobs = [self._told(job) for job in json.loads(response.body) if self._listed(job)]
            return replace(response, body=json.dumps(jobs).encode())
        elif request.path.startswith("/api/jobs/") and request.method == "GET" and response.status == 200:
            if self.forgetful:
                return Response(404, b"Job does not exist")
            if request.path.endswith("/logs"):
                return response
            return replace(response, body=json.dumps(self._told(json.loads(response.body))).encode())
        return response

    def catch_up(self) -> None:
        self.lagging = False
        self._unlisted.clear()

    def stop_jobs(self) -> None:
        """Stop what still runs of the jobs that came this way."""
        for job_id in self.accepted:
            self.forward("POST", f"/api/jobs/{job_id}/stop", headers={"Authorization": f"Bearer {TOKEN}"})

    def _listed(self, job: dict[str, Any]) -> bool:
        return not self.forgetful and job["submission_id"] not in self._unlisted

    def _told(self, job: dict[str, Any]) -> dict[str, Any]:
        return {**job, **self.says.get(job["submission_id"], {})}
