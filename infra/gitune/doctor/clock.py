"""The clock: signatures of requests, locks and tokens rest on it."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from gitune.doctor.finding import OFFLINE, Finding, Setting

_LARGEST_SECONDS = 60
_TIMEOUT_SECONDS = 5


def check_clock(setting: Setting) -> Iterator[Finding]:
    """Against the Date header (RFC 9110, section 6.6.1) of the first server that answers."""
    if not setting.online:
        yield Finding("clock", "not checked", OFFLINE)
        return
    for url in _servers():
        theirs = _date_of(url)
        if theirs is not None:
            yield judge_clock(datetime.now(UTC), theirs, urlsplit(url).netloc.rpartition("@")[2])
            return
    hint = "GITHUB_API_URL may name a server that is reached"
    yield Finding("clock", "not checked", "no server was reached to compare it with", hint)


def judge_clock(ours: datetime, theirs: datetime, server: str) -> Finding:
    """Amazon and GitHub refuse what is minutes off; a lock's age is told wrongly before that."""
    off = (ours - theirs).total_seconds()
    if abs(off) <= _LARGEST_SECONDS:
        return Finding("clock", "ok", f"{abs(off):.0f} s from {server}")
    side = "ahead of" if off > 0 else "behind"
    return Finding("clock", "warning", f"{abs(off):.0f} s {side} {server}", "turn on time synchronisation (NTP)")


def _servers() -> Iterator[str]:
    """None is sent a credential."""
    for url in (os.environ.get("GITHUB_API_URL", ""), os.environ.get("AWS_ENDPOINT_URL", ""), "https://api.github.com"):
        if url.startswith(("http://", "https://")):
            yield url


def _date_of(url: str) -> datetime | None:
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
            date = answer.headers.get("Date")
    except urllib.error.HTTPError as error:  # an answer, too
        date = error.headers.get("Date")
        error.close()
    except (OSError, ValueError):
        return None
    try:
        found = parsedate_to_datetime(date or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
