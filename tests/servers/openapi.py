"""Checks exchanges against an official OpenAPI document, requests and answers both."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from tests.servers.base import Request, Response

DOCUMENTS = Path(__file__).resolve().parents[2].parent / "shared" / "openapi"


class OpenApi:
    """One document. `violations(request, response)` says what is against it, in words; nothing when all is well."""

    def __init__(self, name: str) -> None:
        self._document = _modern(json.loads((DOCUMENTS / f"{name}.json").read_text(encoding="utf-8")))
        resource = Resource.from_contents(self._document, default_specification=DRAFT202012)
        self._registry: Any = Registry().with_resource("urn:document", resource)
        paths = [(self._pattern(path), path) for path in self._document["paths"]]
        self._paths = sorted(paths, key=lambda item: item[1].count("{"))  # the literal ones first

    def violations(self, request: Request, response: Response, *, prefix: str = "") -> list[str]:
        """What is wrong; `prefix` is the part of the path before the document's own."""
        place = f"{request.method} {request.path}"
        path = request.path.removeprefix(prefix)
        found = next((name for pattern, name in self._paths if pattern.fullmatch(path)), None)
        operation = self._document["paths"].get(found, {}).get(request.method.lower()) if found else None
        if found is None or operation is None:
            return [f"{place}: not in the document"]
        wrong = []
        content = operation.get("requestBody", {}).get("content", {})
        if request.headers.get_content_type() == "application/json" and "application/json" in content:
            pointer = ("paths", found, request.method.lower(), "requestBody", "content", "application/json", "schema")
            wrong += [f"{place}: request: {said}" for said in self._check(pointer, json.loads(request.body))]
        known = {item["name"] for item in self._parameters(found, operation) if item["in"] == "query"}
        wrong += [f"{place}: unknown parameter {name}" for name in request.query if name.split("[")[0] not in known]
        status = str(response.status)
        answers = operation["responses"]
        if response.status < 400 and status not in answers:
            wrong.append(f"{place}: answer {status} is not in the document")
        if response.is_json and "application/json" in answers.get(status, {}).get("content", {}):
            pointer = (
                "paths",
                found,
                request.method.lower(),
                "responses",
                status,
                "content",
                "application/json",
                "schema",
            )
            wrong += [
                f"{place}: answer {status}: {said}" for said in self._check(pointer, json.loads(response.encoded()))
            ]
        return wrong

    def _parameters(self, path: str, operation: dict[str, Any]) -> list[dict[str, Any]]:
        listed = [*self._document["paths"][path].get("parameters", []), *operation.get("parameters", [])]
        return [self._resolved(item) for item in listed]

    def _resolved(self, value: dict[str, Any]) -> dict[str, Any]:
        if "$ref" not in value:
            return value
        found: Any = self._document
        for part in value["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        return found  # type: ignore[no-any-return]

    def _check(self, pointer: tuple[str, ...], value: Any) -> list[str]:
        validator = self._validator(pointer)
        errors = sorted(validator.iter_errors(value), key=lambda error: list(map(str, error.absolute_path)))
        return [f"{'.'.join(map(str, error.absolute_path)) or 'whole'}: {error.message[:200]}" for error in errors]

    @cache  # noqa: B019 - one document, for the whole test run
    def _validator(self, pointer: tuple[str, ...]) -> Any:
        reference = "urn:document#/" + "/".join(part.replace("~", "~0").replace("/", "~1") for part in pointer)
        return Draft202012Validator({"$ref": reference}, registry=self._registry)

    @staticmethod
    def _pattern(path: str) -> re.Pattern[str]:
        return re.compile(re.sub(r"\\{[^}]+\\}", "[^/]+", re.escape(path)))


def _modern(value: Any) -> Any:
    """The document in JSON Schema of 2020-12: what OpenAPI 3.0 says in its own way, and limits that are text."""
    if isinstance(value, list):
        return [_modern(item) for item in value]
    if not isinstance(value, dict):
        return value
    limits = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    new = {k: float(v) if k in limits and isinstance(v, str) else _modern(v) for k, v in value.items()}
    for exclusive, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if new.get(exclusive) is True:
            new[exclusive] = new.pop(limit)
    if new.get("nullable") is True:
        del new["nullable"]
        return {"anyOf": [new, {"type": "null"}]}
    return new


@cache
def openapi(name: str) -> OpenApi:
    """The document ../shared/openapi/<name>.json, read once."""
    return OpenApi(name)
