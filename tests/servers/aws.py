"""Amazon's REST-JSON services as botocore describes them: requests are read and checked by it, answers are checked."""

from __future__ import annotations

import json
import re
from binascii import crc32
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from struct import pack
from typing import Any

import botocore.session

from tests.servers.base import Request, Response, route

AwsHandler = Callable[[Any, dict[str, Any]], Any]
_TYPES: Mapping[str, tuple[type, ...]] = {
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
    "timestamp": (str,),
}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")


@cache
def service_model(service: str) -> Any:
    """botocore's description of a service, read once."""
    return botocore.session.get_session().get_service_model(service)


def operation(service: str, name: str) -> Callable[[AwsHandler], Any]:
    """Marks the handler of an operation: it takes the parameters and gives the answer's fields, or a Response.

    What is against the description is refused as Amazon refuses it, and noted in the server's `violations`.
    """
    model = service_model(service).operation_model(name)
    path = re.sub(r"\{(\w+)\}", r"(?P<\1>.+)", model.http["requestUri"])

    def mark(handler: AwsHandler) -> Any:
        @route(model.http["method"], path)
        def handle(server: Any, request: Request) -> Response:
            given = _parameters(model, request)
            wrong = list(violations(model.input_shape, given, "input"))
            if wrong:
                server.violations += [f"{name}: {said}" for said in wrong]
                return aws_error(400, "ValidationException", f"{len(wrong)} validation error detected: {wrong[0]}")
            answer = handler(server, given)
            if isinstance(answer, Response):
                return answer
            # enumerations are left open: the word that a test plants, and those that Amazon adds
            wrong = list(violations(model.output_shape, answer, "output", enums=False)) if model.output_shape else []
            server.violations += [f"{name}: {said}" for said in wrong]
            return Response(model.http.get("responseCode", 200), answer)

        return handle

    return mark


def aws_error(status: int, code: str, message: str) -> Response:
    """An error as REST-JSON services say it."""
    return Response(status, {"message": message}, {"x-amzn-ErrorType": f"{code}:http://internal.amazon.com/coral/"})


def violations(shape: Any, value: Any, place: str, *, enums: bool = True) -> Iterator[str]:
    """What is against a shape: types, required and unknown members, lengths, ranges, patterns, enumerations."""
    match shape.type_name:
        case "structure" if isinstance(value, dict):
            yield from _structure(shape, value, place, enums)
        case "list" if isinstance(value, list):
            yield from _range(shape, len(value), place)
            for number, item in enumerate(value):
                yield from violations(shape.member, item, f"{place}[{number}]", enums=enums)
        case "map" if isinstance(value, dict):
            for key, item in value.items():
                yield from violations(shape.key, key, f"{place} key", enums=enums)
                yield from violations(shape.value, item, f"{place}.{key}", enums=enums)
        case "string" if isinstance(value, str):
            yield from _range(shape, len(value), place)
            yield from _text(shape, value, place, enums)
        case kind if type(value) in _TYPES.get(kind, ()):
            if kind == "timestamp" and not _TIME.fullmatch(value):
                yield f"Value '{value}' at '{place}' is not a time of ISO 8601"
            elif kind not in ("timestamp", "boolean"):
                yield from _range(shape, value, place)
        case kind:
            yield f"Value {value!r} at '{place}' is not of the type {kind}"


def event_stream(events: list[tuple[str, Mapping[str, Any]]]) -> bytes:
    """Events in Amazon's binary encoding (application/vnd.amazon.eventstream), the reverse of botocore.eventstream."""
    return b"".join(_event(name, json.dumps(fields).encode()) for name, fields in events)


def _event(name: str, payload: bytes) -> bytes:
    values = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    headers = b"".join(
        pack("!B", len(key)) + key.encode() + pack("!BH", 7, len(value)) + value.encode()
        for key, value in values.items()
    )
    prelude = pack("!II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + pack("!I", crc32(prelude)) + headers + payload
    return message + pack("!I", crc32(message))


def _parameters(model: Any, request: Request) -> dict[str, Any]:
    """The operation's parameters out of path, query and body."""
    given: dict[str, Any] = json.loads(request.body) if request.body else {}
    for name, shape in model.input_shape.members.items():
        key = shape.serialization.get("name", name)
        match shape.serialization.get("location"):
            case "uri":
                given[name] = request.parts[key]
            case "querystring" if key in request.query:
                text = request.query[key]
                given[name] = int(text) if shape.type_name == "integer" else text
    return given


def _structure(shape: Any, value: dict[str, Any], place: str, enums: bool) -> Iterator[str]:
    if shape.is_document_type:
        return
    yield from (f"Value at '{place}.{name}' must not be null" for name in shape.required_members if name not in value)
    yield from (f"Value at '{place}.{name}' is unknown" for name in value if name not in shape.members)
    for name, member in shape.members.items():
        if name in value:
            yield from violations(member, value[name], f"{place}.{name}", enums=enums)


def _text(shape: Any, value: str, place: str, enums: bool) -> Iterator[str]:
    pattern, allowed = shape.metadata.get("pattern"), shape.metadata.get("enum")
    if pattern and not re.fullmatch(pattern, value):
        yield f"Value '{value}' at '{place}' must satisfy regular expression pattern: {pattern[:60]}"
    if enums and allowed and value not in allowed:
        yield f"Value '{value}' at '{place}' must satisfy enum value set: {allowed}"


def _range(shape: Any, size: float, place: str) -> Iterator[str]:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if low is not None and size < low:
        yield f"Value at '{place}' must be at least {low}"
    if high is not None and size > high:
        yield f"Value at '{place}' must be at most {high}"
