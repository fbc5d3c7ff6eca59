"""The SDK's client of Ray Jobs: with time-outs, with the credentials that Ray's users know, raising gitune's errors."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from gitune.errors import NotFound, Unauthorized, Unavailable
from gitune.providers.wire import api_key, error_of_status, one_line, retry_after_seconds

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
_TOKEN_HINT = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, or RAY_JOB_HEADERS, or key_variable in the stack"


def address_of(base_url: str | None) -> str:
    """The dashboard's URL: the stack's block wins over the environment. Raises Unauthorized for what is not a URL."""
    named = os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS")
    address = base_url or named or DEFAULT_ADDRESS
    if not address.startswith(("http://", "https://")):
        hint = "set RAY_ADDRESS, or base_url in the stack, to the dashboard's URL, such as http://127.0.0.1:8265"
        raise Unauthorized("RAY_ADDRESS is not the URL of a Ray dashboard", hint=hint)
    return address.rstrip("/")


def is_loopback(address: str) -> bool:
    """Whether a URL names this machine."""
    return urlsplit(address).hostname in ("localhost", "127.0.0.1", "::1")


def headers_of(key_variable: str | None) -> dict[str, str]:
    """RAY_JOB_HEADERS, as Ray's command line takes them, and the token that `key_variable` holds. Raises Unauthorized.

    RAY_AUTH_TOKEN is the SDK's own business.
    """
    try:
        headers = dict(json.loads(os.environ.get("RAY_JOB_HEADERS") or "{}"))
    except (ValueError, TypeError):
        hint = 'such as {"Authorization": "Bearer ..."}'
        raise Unauthorized("RAY_JOB_HEADERS is not a JSON object of headers", hint=hint) from None
    if key_variable is not None:
        headers["Authorization"] = f"Bearer {api_key(key_variable, 'the Ray cluster')}"
    return headers


def open_client(address: str, headers: Mapping[str, str], timeout_seconds: float) -> Any:
    """A JobSubmissionClient that calls nobody yet; see `_client_class` for what it has more. Raises Unauthorized."""
    try:
        from ray.exceptions import RayError

        client = _client_class()
    except ImportError as error:
        message = f"provider ray needs the package {error.name}"
        raise Unauthorized(message, hint="pip install 'gitune[ray]'") from None
    try:
        return client(address, dict(headers), timeout_seconds)
    except RayError as error:  # token authentication without a token
        raise Unauthorized(one_line(error), hint=_TOKEN_HINT) from None


@functools.cache
def _client_class() -> Any:
    """Made when it is first needed: importing Ray takes a second."""
    import requests
    from ray.dashboard.modules.dashboard_sdk import SubmissionClient
    from ray.exceptions import RayError
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):  # type: ignore[misc]
        def __init__(self, address: str, headers: dict[str, str], timeout_seconds: float) -> None:
            # not JobSubmissionClient's: that asks the server's version twice, and lets RAY_ADDRESS win over `address`
            SubmissionClient.__init__(self, address=address, headers=headers)
            self._timeout = timeout_seconds

        def _check_connection_and_version(self, *_args: Any, **_kwargs: Any) -> None:
            """What is older than Ray 2.2 (2022) answers in its own words."""

        def _do_request(self, method: str, endpoint: str, **kwargs: Any) -> Any:
            try:
                answer = super()._do_request(method, endpoint, timeout=self._timeout, **kwargs)
            except RayError as error:  # 401 and 403
                raise Unauthorized(one_line(error), hint=_TOKEN_HINT) from None
            except requests.RequestException as error:
                message = f"no answer from Ray at {self._address}: {type(error).__name__}"
                raise Unavailable(message, hint="is the cluster up, and its port forwarded?") from None
            return _checked(answer, self._address)

        def job(self, job_id: str) -> Mapping[str, Any] | None:
            """As JSON, None if there is none: the SDK's own classes refuse a status that a later Ray adds."""
            try:
                return dict(self._do_request("GET", f"/api/jobs/{job_id}").json())
            except NotFound:
                return None

        def jobs(self) -> list[Mapping[str, Any]]:
            """All of the cluster, others' too."""
            return list(self._do_request("GET", "/api/jobs/").json())

    return Client


def _checked(answer: Any, address: str) -> Any:
    if answer.status_code != 200:
        message = last_line(answer.text) or f"HTTP {answer.status_code}"
        after = retry_after_seconds(answer.headers.get("Retry-After"))
        raise error_of_status(answer.status_code, message, retry_after=after)
    try:
        answer.json()
    except ValueError:
        raise Unavailable(f"what answers at {address} is not Ray") from None
    return answer


def last_line(text: str) -> str:
    """The line of a traceback that says it. A page of HTML says nothing."""
    if text.lstrip().startswith("<"):
        return ""
    return next((line.strip() for line in reversed(text.splitlines()) if len(line.strip()) > 1), "")[:300]
