"""URLs that a config may name: none holds a password, because config is committed, shown and recorded."""

from __future__ import annotations

import re

from pydantic_core import PydanticCustomError

FILE_SCHEMES = ("file", "local")
_USUAL = (*FILE_SCHEMES, "s3", "gs")
_PASSWORD = re.compile(r"(?!github:)[^:]+://[^/@]*:(?!\d+/)[^@]*@")
"""`s3://key:sec/ret@bucket`, but no port, no container@account of Azure and no github://owner:repository@branch."""
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_ENVIRONMENT = "credentials come from the environment, such as AWS_ACCESS_KEY_ID; remove what is in the URL"


def holds_password(url: str) -> bool:
    """Whether a secret stands before the host; a name alone does not count."""
    return _PASSWORD.match(url) is not None


def check_store_url(url: str) -> str:
    """The URL itself. Raises PydanticCustomError, which does not repeat it."""
    if "::" in url:
        raise _wrong("a chain of URLs is not a store", "name the file system itself, such as s3://bucket/prefix")
    scheme = _SCHEME.match(url)
    if scheme is None:
        return url
    if holds_password(url) or "?" in url:
        raise _wrong("must not hold a credential", _ENVIRONMENT)
    if scheme[1] not in _USUAL and scheme[1] not in _known_schemes():
        raise _wrong(f"nothing is known of {scheme[1]}://", "a folder, s3://, gs://, or what else fsspec knows")
    return url


def _known_schemes() -> list[str]:
    from fsspec import available_protocols  # for the rare one only: importing it takes a while

    return list(available_protocols())


def _wrong(message: str, hint: str) -> PydanticCustomError:
    return PydanticCustomError("store", message, {"hint": hint})
