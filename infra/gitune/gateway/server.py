"""The gateway on this machine, by uvicorn."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

from gitune.deploy import Route
from gitune.errors import UserError
from gitune.hosting import target_of
from gitune.project import Project
from gitune.providers.base import ChatTarget
from gitune.shared_routes import fetch_routes, is_shared

_DRAIN_SECONDS = 60
_FOLLOW_SECONDS = 5.0


def serve(project: Project, host: str, port: int, token: str | None, say: Callable[[str], None]) -> None:
    """Serve the stack's routes until Ctrl-C; requests in flight are answered. Raises UserError."""
    try:
        import uvicorn

        from gitune.gateway.app import gateway_app
        from gitune.gateway.routing import RoutesFile
    except ModuleNotFoundError as error:
        raise UserError("the gateway needs starlette, httpx and uvicorn", hint="pip install 'gitune[serve]'") from error

    def find_target(route: Route) -> ChatTarget:
        return target_of(project, route)

    fetch_routes(project)
    if is_shared(project):
        threading.Thread(target=_follow, args=(project, say), daemon=True).start()
    routes = RoutesFile(project.routes_file)
    aliases = sorted(routes.entries())
    app = gateway_app(routes, find_target, token)
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=_DRAIN_SECONDS)
    with _listening(host, port) as listener:
        served = ", ".join(aliases) or "nothing is deployed yet"
        say(f"serving on http://{host}:{listener.getsockname()[1]}/v1: {served}")
        uvicorn.Server(config).run(sockets=[listener])


def _follow(project: Project, say: Callable[[str], None]) -> None:
    """Have each deployment here soon after a runner published it. While the store is away, what is here stays."""
    away = False
    while True:
        time.sleep(_FOLLOW_SECONDS)
        try:
            fetch_routes(project)
            away = False
        except UserError as error:
            if not away:
                say(f"the routes stay as they are: {error.message}")
            away = True


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UserError(f"cannot listen on {host}:{port}: {error.strerror}", hint="choose another: --port") from error
    return listener
