"""boto3's clients, and what their errors mean. boto3 is imported when a client is opened."""

from __future__ import annotations

import contextlib
import functools
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

from gitune.errors import ProviderError, QuotaExceeded, Rejected, Retired, Unauthorized, Unavailable
from gitune.providers.wire import error_of_status, one_line, quota_kind, retry_after_seconds

# Codes whose HTTP status says something else than they mean, or is not always the same.
_STATUS_OF_CODE: Mapping[str, int] = {
    "ConflictException": 409,
    "ExpiredToken": 401,
    "InvalidToken": 401,
    "NoSuchBucket": 401,
    "ResourceNotFoundException": 404,
    "ThrottlingException": 429,
    "UnrecognizedClientException": 401,
}
_HINTS: Mapping[str, str] = {
    "ExpiredToken": "sign in to AWS again",
    "ExpiredTokenException": "sign in to AWS again",
    "NoSuchBucket": "make the bucket, or name another one in the stack",
}
_NO_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
_LOCAL = {
    "NoCredentialsError": _NO_CREDENTIALS,
    "PartialCredentialsError": _NO_CREDENTIALS,
    "CredentialRetrievalError": "sign in to AWS again",
    "TokenRetrievalError": "sign in to AWS again",
    "SSOTokenLoadError": "sign in to AWS again",
    "UnauthorizedSSOTokenError": "sign in to AWS again",
    "ProfileNotFound": "set AWS_PROFILE to a profile of ~/.aws/config",
    "NoRegionError": "set region in the stack's block, or AWS_REGION",
}
"""What boto3 finds wanting on this machine, and what mends it."""
_RETIRED = re.compile(r"end of (?:its )?life|no longer (?:supported|available)|marked by provider as legacy", re.I)
_TAKEN = re.compile(r"(?:currently|already) in use|already exists", re.I)
_THEIR_FAULT = re.compile(r"internal|unexpected|unavailable", re.I)


def open_client(service: str, region: str | None, timeout_seconds: float) -> Any:
    """A client of one service. Nothing is repeated by it: who asks again is gitune. Raises ProviderError.

    What is not given is found by boto3: credentials, profile, endpoints, and the region where it is None.
    """
    try:
        import boto3
        import botocore.session
        from botocore.config import Config
    except ImportError as error:
        raise Unauthorized("Amazon's services need boto3", hint="pip install 'gitune[bedrock]'") from error
    logging.getLogger("botocore").setLevel(logging.INFO)  # at DEBUG it writes the headers that sign a request
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=timeout_seconds, read_timeout=timeout_seconds)
    with mapped():
        core = botocore.session.get_session()
        core.register_component("data_loader", _loader())
        return boto3.session.Session(botocore_session=core, region_name=region).client(service, config=config)


@contextlib.contextmanager
def mapped() -> Iterator[None]:
    """boto3's errors as gitune's. Their causes are left out: those hold signed requests."""
    from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ClientError as error:
        raise _error_of_answer(error.response) from None
    except ParamValidationError as error:
        raise Rejected(one_line(str(error))) from None
    except BotoCoreError as error:
        message, hint = one_line(str(error)), _LOCAL.get(type(error).__name__)
        raise (Unavailable(message) if hint is None else Unauthorized(message, hint=hint)) from None
    except (ResponseParserError, KeyError, TypeError, ValueError) as error:
        raise Unavailable(f"an answer that is not the protocol's: {one_line(str(error))}") from None


def error_of_failure(message: str) -> ProviderError:
    """The error behind the words with which a job that had been accepted failed."""
    line = one_line(message)
    kind = quota_kind(line)
    if kind is not None:
        return QuotaExceeded(line, kind=kind)
    if _RETIRED.search(line):
        return Retired(line)
    if not line or _THEIR_FAULT.search(line):
        return ProviderError(line or "failed, and Amazon does not say why")
    return Rejected(line)


def _error_of_answer(response: Mapping[str, Any]) -> ProviderError:
    said, facts = response.get("Error", {}), response.get("ResponseMetadata", {})
    code, words = str(said.get("Code", "")), str(said.get("Message", ""))
    message = one_line(f"{code}: {words}")
    after = retry_after_seconds(facts.get("HTTPHeaders", {}).get("retry-after"))
    if _RETIRED.search(words):
        return Retired(message)
    if code == "ServiceQuotaExceededException":
        # "Total custom models" does not free up by itself; "Sum of in-progress customization jobs" does.
        kind = quota_kind(words) or ("lifetime" if "custom models" in words.lower() else "concurrent")
        return QuotaExceeded(message, kind=kind, retry_after=after)
    if code == "ValidationException" and _TAKEN.search(words):
        return Unavailable(message, retry_after=after)  # a job of this name was accepted a moment ago
    status = _STATUS_OF_CODE.get(code, facts.get("HTTPStatusCode", 500))
    return error_of_status(status, message, retry_after=after, hint=_HINTS.get(code))


@functools.cache
def _loader() -> Any:
    """botocore's reader of service descriptions, which keeps what it has read: megabytes of JSON."""
    from botocore.loaders import create_loader

    return create_loader()
