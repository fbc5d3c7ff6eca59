"""The gateway as an ASGI application: aliases in, answers of models out."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Path_

from gitune.deploy import Route
from gitune.errors import GituneError
from gitune.gateway.routing import RoutesFile, choose_route
from gitune.gateway.upstreams import Upstream, Upstreams
from gitune.gateway.wire import error, read_question
from gitune.hints import did_you_mean
from gitune.providers.base import ChatTarget

_MOST_BYTES = 10_000_000

FindTarget = Callable[[Route], ChatTarget]
"""Where a route's model answers. Raises UserError or ProviderError."""


def gateway_app(routes: RoutesFile, find_target: FindTarget, token: str | None = None) -> Starlette:
    """`token`: what clients must send as their API key; None: anybody may ask."""
    gateway = _Gateway(routes, find_target, token)
    return Starlette(
        routes=[
            Path_("/v1/chat/completions", gateway.chat, methods=["POST"]),
            Path_("/v1/models", gateway.models),
            Path_("/health", gateway.health),
        ],
        lifespan=gateway.lifespan,
    )


class _Gateway:
    def __init__(self, routes: RoutesFile, find_target: FindTarget, token: str | None) -> None:
        self._routes, self._find_target, self._token = routes, find_target, token
        self._opened: dict[Route, Upstream] = {}

    @asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        self._upstreams = Upstreams()
        yield
        await self._upstreams.close()

    async def chat(self, request: Request) -> Response:
        """One question. It keeps the route that it began with, whatever `up` does meanwhile."""
        if not self._allowed(request):
            return error(401, "wrong or missing API key", "invalid_api_key")
        raw = await request.body()
        if len(raw) > _MOST_BYTES:
            return error(413, f"more than {_MOST_BYTES:,} bytes", "request_too_large")
        question = read_question(raw)
        if isinstance(question, str):
            return error(400, question, "invalid_request")
        try:
            entries = self._routes.entries()
            entry = entries.get(question.alias)
            if entry is None:
                hint = (
                    did_you_mean(question.alias, entries) or f"deployed: {', '.join(sorted(entries)) or 'nothing yet'}"
                )
                return error(404, f"no alias '{question.alias}'; {hint}", "model_not_found")
            route = choose_route(entry, question.user)
            answer = await (await self._upstream(route)).answer(question)
        except GituneError as failure:
            return error(502, failure.message, "upstream_error")
        answer.headers["x-gitune-model"] = f"{route.provider}/{route.model_id}"
        answer.headers["x-gitune-version"] = f"{route.agent}@{route.version}"
        return answer

    async def models(self, request: Request) -> Response:
        """The aliases, as OpenAI lists models."""
        if not self._allowed(request):
            return error(401, "wrong or missing API key", "invalid_api_key")
        try:
            aliases = sorted(self._routes.entries())
        except GituneError as failure:
            return error(502, failure.message, "upstream_error")
        listed = [{"id": alias, "object": "model", "created": 0, "owned_by": "gitune"} for alias in aliases]
        return JSONResponse({"object": "list", "data": listed})

    async def health(self, _request: Request) -> Response:
        """Whether requests can be answered, and by which versions."""
        try:
            entries = self._routes.entries()
        except GituneError as failure:
            return error(503, failure.message, "no_routes")
        return JSONResponse(
            {"status": "ok", "aliases": {alias: entry.route.version for alias, entry in entries.items()}}
        )

    async def _upstream(self, route: Route) -> Upstream:
        if route not in self._opened:
            target = await run_in_threadpool(self._find_target, route)
            self._opened[route] = self._upstreams.open(target)
        return self._opened[route]

    def _allowed(self, request: Request) -> bool:
        if self._token is None:
            return True
        said = request.headers.get("authorization", "").removeprefix("Bearer ")
        return hmac.compare_digest(said.encode(), self._token.encode())
