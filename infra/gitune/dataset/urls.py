"""Addresses of sources as people may see them: a credential in one is never printed, logged or recorded."""

from __future__ import annotations

import re

from gitune.store_url import holds_password

_PASSWORD = re.compile(r"(?<!github)://[^/@:\s'\"]*:(?!\d+/)[^@\s'\"]*@")
_TOKEN = re.compile(r"(https?)://[^/?#@\s'\"]*@")
_PARAMETER = re.compile(r"(?<=[?&])([^=&#\s'\"]+)=[^&#\s'\")]*")


def holds_credential(url: str) -> bool:
    """A password, or `https://token@host`; the container of `abfs://container@account` is none."""
    return holds_password(url) or _TOKEN.match(url) is not None


def shown_url(text: str) -> str:
    """The URL, or a text that holds URLs, without user, password and the values of the query: signed URLs have keys."""
    if "://" not in text:
        return text
    return _PARAMETER.sub(r"\1=***", _TOKEN.sub(r"\1://***@", _PASSWORD.sub("://***@", text)))
