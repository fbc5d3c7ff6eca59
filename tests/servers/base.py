"""A real HTTP server with a clock that tests move, limits, and faults. Each protocol is a subclass with handlers."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

from gitune.testing import Fault

SLOW_SECONDS = 2.0
"""How long a fault of the kind "slow" keeps a client waiting; tests give their clients shorter time-outs."""

Phase = Literal["received", "acted", "delivered"]
"""Where an exchange is: the request was read and not looked at; it was carried out; its answer was sent."""
Watch = Callable[[int, Phase], bool]
"""Told of each exchange's number, from 1, and phase. True: the exchange goes no further, the server hangs up."""


class Clock:
    """Seconds since 1970 as the server sees them. Moves only when told."""

    def __init__(self, now: float = 1_790_000_000.0) -> None:
        self.now = now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True, slots=True)
class Request:
    """One request as a handler sees it."""

    method: str
    path: str
    query: Mapping[str, str]
    """The last value of each parameter."""
    headers: Message
    body: bytes
    parts: Mapping[str, str] = field(default_factory=dict)
    """The named groups of the route."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def form(self) -> dict[str, tuple[str | None, bytes]]:
        """The parts of multipart/form-data: name → (file name, content)."""
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message = BytesParser(policy=HTTP).parsebytes(head + self.body)
        found = {}
        for part in message.iter_parts():  # type: ignore[attr-defined]
            name = part.get_param("name", header="content-disposition")
            found[name] = (part.get_filename(), part.get_payload(decode=True))
        return found


@dataclass(frozen=True, slots=True)
class Response:
    """One answer: `body` is bytes as they are, or a value that is sent as JSON."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_json(self) -> bool:
        return self.headers.get("Content-Type", "application/json") == "application/json"

    def encoded(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return b"" if self.body is None else json.dumps(self.body).encode()


Handler = Callable[[Any, Request], Response]


def route(method: str, pattern: str) -> Callable[[Handler], Handler]:
    """Marks a method of a server as the handler of a path, a regular expression that must match whole."""

    def mark(handler: Handler) -> Handler:
        handler.routes = [*getattr(handler, "routes", []), (method, re.compile(pattern))]  # type: ignore[attr-defined]
        return handler

    return mark


class HttpServer:
    """Use as a context manager; `url` is where it listens."""

    submit_route: ClassVar[tuple[str, str]] = ("POST", "")
    """Method and path of the request that starts a job."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.seconds_per_request = 0.0
        """How far each request moves the clock: for clients that wait for a job."""
        self.requests_per_minute: int | None = None
        """Of the server's clock; more are answered with 429 and Retry-After."""
        self.requests: list[Request] = []
        self._minute: list[float] = []
        self.violations: list[str] = []
        """What was against the protocol's own description, in requests or answers. Tests assert that it is empty."""
        self.watch: Watch = lambda number, phase: False
        self._faults: list[tuple[Fault, bool]] = []
        self._lock = threading.RLock()
        self._ids = itertools.count(1)
        server = self

        class Connection(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # head and body are two packets: Nagle would hold the second for 40 ms

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except (ConnectionError, TimeoutError):
                    self.close_connection = True

            def _serve(self) -> None:
                server._serve(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _serve  # noqa: N815 - http.server's names

            def log_message(self, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Connection)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def next_number(self) -> int:
        """Counts from 1: for IDs that are the same in every run."""
        return next(self._ids)

    def plant(self, fault: Fault, *, on_submit: bool = False) -> None:
        """The next request, or the next that submits a job, meets this fault."""
        with self._lock:
            self._faults.append((fault, on_submit))

    # --- for subclasses

    def authorize(self, request: Request) -> Response | None:
        """The refusal of a request without a valid credential."""
        return None

    def error(self, status: int, message: str) -> Response:
        """An error as this protocol says it."""
        return Response(status, {"message": message})

    def observe(self, request: Request, response: Response) -> None:
        """Sees every exchange: the place to check it against an OpenAPI document."""

    # --- the exchange

    def _serve(self, connection: BaseHTTPRequestHandler) -> None:
        url = urlsplit(connection.path)
        body = _read_body(connection)
        query = {name: values[-1] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        request = Request(connection.command, unquote(url.path), query, connection.headers, body)
        with self._lock:
            self.requests.append(request)
            number = len(self.requests)
        if self.watch(number, "received"):
            _hang_up(connection)
            return
        with self._lock:
            self.clock.advance(self.seconds_per_request)
            fault = self._take_fault(request)
        if fault is not None and fault.kind != "lost":
            self._misbehave(connection, fault)
            return
        with self._lock:
            response = self._limited() or self.authorize(request) or self._handled(request)
            self.observe(request, response)
        if self.watch(number, "acted") or fault is not None:  # carried out; the answer is lost
            _hang_up(connection)
            return
        _send(connection, response)
        self.watch(number, "delivered")

    def _limited(self) -> Response | None:
        self._minute = [at for at in self._minute if at > self.clock.now - 60]
        if self.requests_per_minute is None or len(self._minute) < self.requests_per_minute:
            self._minute.append(self.clock.now)
            return None
        wait = max(1, math.ceil(self._minute[0] + 60 - self.clock.now))
        return replace(self.error(429, "Requests rate limit exceeded"), headers={"Retry-After": str(wait)})

    def _handled(self, request: Request) -> Response:
        for name in dir(type(self)):
            handler = getattr(type(self), name)
            for method, pattern in getattr(handler, "routes", ()):
                match = pattern.fullmatch(request.path) if method == request.method else None
                if match:
                    return handler(self, replace(request, parts=match.groupdict()))  # type: ignore[no-any-return]
        return self.error(404, f"no route {request.method} {request.path}")

    def _take_fault(self, request: Request) -> Fault | None:
        method, path = self.submit_route
        submits = request.method == method and re.fullmatch(path, request.path) is not None
        for number, (fault, on_submit) in enumerate(self._faults):
            if submits or not on_submit:
                del self._faults[number]
                return fault
        return None

    def _misbehave(self, connection: BaseHTTPRequestHandler, fault: Fault) -> None:
        match fault.kind:
            case "status":
                response = self.error(fault.status, fault.message)
                after = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
                _send(connection, replace(response, headers={**response.headers, **after}))
            case "slow":
                time.sleep(SLOW_SECONDS)
                _hang_up(connection)
            case "malformed":
                _send(connection, Response(200, b'{"this": is not JSON', {"Content-Type": "application/json"}))
            case _:  # cut
                connection.wfile.write(
                    b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"'
                )
                _hang_up(connection)


def _read_body(connection: BaseHTTPRequestHandler) -> bytes:
    if connection.headers.get("Transfer-Encoding", "").lower() == "chunked":
        chunks = []
        while size := int(connection.rfile.readline().split(b";")[0], 16):
            chunks.append(connection.rfile.read(size))
            connection.rfile.readline()
        connection.rfile.readline()
        return b"".join(chunks)
    length = int(connection.headers.get("Content-Length") or 0)
    body = connection.rfile.read(length)
    if len(body) < length:
        raise ConnectionError("the client died within its request")
    return body


def _send(connection: BaseHTTPRequestHandler, response: Response) -> None:
    body = response.encoded()
    headers = {"Content-Type": "application/json", **response.headers}
    connection.send_response(response.status)
    for name, value in headers.items():
        connection.send_header(name, value)
    connection.send_header("Content-Length", str(len(body)))
    connection.end_headers()
    if connection.command != "HEAD":
        connection.wfile.write(body)


def _hang_up(connection: BaseHTTPRequestHandler) -> None:
    connection.close_connection = True
    connection.wfile.flush()
    with contextlib.suppress(OSError):  # the client is gone already
        connection.connection.shutdown(socket.SHUT_RDWR)
