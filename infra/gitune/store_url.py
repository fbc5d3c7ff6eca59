"""URLs that a config may name: none holds a password, because config is committed, shown and recorded."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from pydantic_core import PydanticCustomError

FILE_SCHEMES = ("file", "local")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")
_ENVIRONMENT = "credentials come from the environment, such as AWS_ACCESS_KEY_ID; remove what is in the URL"


def holds_password(url: str) -> bool:
    """`s3://key:secret@bucket`. A name alone is part of some addresses, as in abfs://container@account."""
    return ":" in url.partition("://")[2].partition("/")[0].rpartition("@")[0]


def check_store_url(url: str) -> str:
    """The URL itself. Raises PydanticCustomError, which does not repeat it."""
    if "::" in url:
        raise _wrong("a chain of URLs is not a store", "name the file system itself, such as s3://bucket/prefix")
    if not _SCHEME.match(url):
        return url
    if holds_password(url) or urlsplit(url).query:
        raise _wrong("must not hold a credential", _ENVIRONMENT)
    return url


def _wrong(message: str, hint: str) -> PydanticCustomError:
    return PydanticCustomError("store", message, {"hint": hint})
