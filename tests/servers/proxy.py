"""A faulty wire in front of a real server: it forwards everything, counts, and misbehaves when told to."""

from __future__ import annotations

import http.client
from urllib.parse import quote, urlencode, urlsplit

from tests.servers.base import HttpServer, Request, Response

_HOPS = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}  # RFC 9110, section 7.6.1


class Proxy(HttpServer):
    """Every request goes to `target`, faults of `plant` aside; `changed` may touch what comes back."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self._target = urlsplit(target)

    def changed(self, request: Request, response: Response) -> Response:
        """What the client gets to see of an answer."""
        return response

    def forward(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Response:
        """One exchange with the server behind."""
        connection = http.client.HTTPConnection(self._target.netloc, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOPS}
            return Response(answer.status, answer.read(), kept)
        finally:
            connection.close()

    def _handled(self, request: Request) -> Response:
        path = quote(request.path) + (f"?{urlencode(request.query)}" if request.query else "")
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOPS}
        return self.changed(request, self.forward(request.method, path, request.body, headers))
