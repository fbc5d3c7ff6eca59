"""Files over HTTP: ETags, ranges, redirects, refusals, TLS."""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
from pathlib import Path

from tests.servers.base import HttpServer, Request, Response, route


class FileServer(HttpServer):
    """`files` by path. A fault that is planted on submit meets the next GET."""

    submit_route = ("GET", r"/.*")

    def __init__(self, *, ranges: bool = True, etags: bool = True, tls: Path | None = None) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.statuses: dict[str, int] = {}
        self.authorization = ""
        """What the header must say, if anything."""
        self._ranges, self._etags, self._tls = ranges, etags, tls is not None
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)

    @property
    def url(self) -> str:
        return super().url.replace("http://", "https://") if self._tls else super().url

    @property
    def downloads(self) -> int:
        return sum(request.method == "GET" for request in self.requests)

    def authorize(self, request: Request) -> Response | None:
        if self.authorization and request.headers["Authorization"] != self.authorization:
            return self.error(401, "who are you")
        return None

    @route("HEAD", r"/.*")
    @route("GET", r"/.*")
    def read(self, request: Request) -> Response:
        if request.path in self.redirects:
            return Response(302, b"", {"Location": self.redirects[request.path]})
        if request.path in self.statuses:
            return self.error(self.statuses[request.path], "as the test wants it")
        content = self.files.get(request.path)
        if content is None:
            return self.error(404, "no such file")
        return ranged(request, content, self._headers(content), ranges=self._ranges)

    def _headers(self, content: bytes) -> dict[str, str]:
        etag = {"ETag": f'"{hashlib.md5(content).hexdigest()}"'} if self._etags else {}
        return {"Content-Type": "application/octet-stream", **etag}


class GoogleServer(HttpServer):
    """The part of the JSON API of Cloud Storage that reads one object: bucket data, with `files`."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}

    @route("GET", r"/storage/v1/b/data/o/(?P<name>.+)")
    def describe(self, request: Request) -> Response:
        content = self.files.get(request.parts["name"])
        if content is None:
            return self.error(404, f"No such object: data/{request.parts['name']}")
        digest = hashlib.md5(content).digest()
        described = {"kind": "storage#object", "bucket": "data", "name": request.parts["name"], "size": len(content)}
        return Response(200, {**described, "etag": digest.hex(), "md5Hash": base64.b64encode(digest).decode()})

    @route("GET", r"/storage/v1/b/data/o")
    def listed(self, request: Request) -> Response:
        return Response(200, {"kind": "storage#objects"})

    @route("GET", r"/download/storage/v1/b/data/o/(?P<name>.+)")
    def download(self, request: Request) -> Response:
        return ranged(request, self.files[request.parts["name"]], {"Content-Type": "application/octet-stream"})

    def error(self, status: int, message: str) -> Response:
        return Response(status, {"error": {"code": status, "message": message}})


def ranged(request: Request, content: bytes, headers: dict[str, str], *, ranges: bool = True) -> Response:
    """The part of the content that the request asks for (RFC 9110, section 14)."""
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", "")) if ranges else None
    if wanted is None:
        return Response(200, content, {**headers, **({"Accept-Ranges": "bytes"} if ranges else {})})
    first, last = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
    if first > last:
        return Response(416, b"", {"Content-Range": f"bytes */{len(content)}"})
    return Response(
        206, content[first : last + 1], {**headers, "Content-Range": f"bytes {first}-{last}/{len(content)}"}
    )
