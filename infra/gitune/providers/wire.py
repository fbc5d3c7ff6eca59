"""What an HTTP answer means, for all providers alike: its status code, or its words where the code says too little."""

from __future__ import annotations

import functools
import os
import re
import ssl
import time
from email.utils import parsedate_to_datetime
from typing import Literal

from gitune.errors import NotFound, ProviderError, QuotaExceeded, Rejected, Retired, Unauthorized, Unavailable

# Words that providers use for limits; the first two are of the status report of 2025-10-31.
_CONCURRENT = re.compile(r"concurrent|at (?:the same time|once)|too many (?:running|active|in.?progress)", re.I)
_LIFETIME = re.compile(
    r"free trial|subscribe|exceeded[_ ](?:your current )?quota|insufficient[_ ](?:quota|funds|credit)|billing"
    r"|spending limit|hard limit|credit balance|payment",
    re.I,
)


@functools.cache
def tls() -> ssl.SSLContext:
    """For all of an SDK's clients: each would read the file of authorities anew, which takes longer than its call."""
    import httpx

    return httpx.create_ssl_context()


def quota_kind(message: str) -> Literal["concurrent", "lifetime"] | None:
    """Which limit a provider's words are about; None when they are about something else."""
    if _CONCURRENT.search(message):
        return "concurrent"
    return "lifetime" if _LIFETIME.search(message) else None


def error_of_status(
    status: int, message: str, *, retry_after: float | None = None, hint: str | None = None
) -> ProviderError:
    """The error behind an HTTP status code of 400 or more (RFC 9110, section 15), or behind one that makes no sense."""
    kind = quota_kind(message)
    if status in (401, 403):
        return Unauthorized(message, hint=hint)
    if status == 404:
        return NotFound(message, hint=hint)
    if status == 410:
        return Retired(message, hint=hint)
    if status == 402 or (status in (400, 422, 429) and kind == "lifetime"):
        return QuotaExceeded(message, kind="lifetime", retry_after=retry_after, hint=hint)
    if status == 429 or (status in (400, 422) and kind == "concurrent"):
        return QuotaExceeded(message, kind="concurrent", retry_after=retry_after, hint=hint)
    if status in (408, 409, 425) or status >= 500 or status < 400:
        return Unavailable(message, retry_after=retry_after, hint=hint)
    return Rejected(message, hint=hint)


def retry_after_seconds(value: str | None) -> float | None:
    """The header Retry-After, seconds or a date (RFC 9110, section 10.2.3), as seconds from now; None if senseless."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return max(seconds, 0.0) if seconds < 1e9 else None


def api_key(variable: str, provider: str) -> str:
    """The key in this environment variable, read at each call so that nothing keeps it. Raises Unauthorized."""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise Unauthorized(f"no API key for {provider}", hint=f"set {variable}, or list another candidate in training:")
    return key


def one_line(text: object, longest: int = 300) -> str:
    """A provider's words as a message: without line feeds, not endless."""
    return " ".join(str(text).split())[:longest]
