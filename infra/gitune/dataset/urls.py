"""Addresses of sources as people may see them: a credential in one is never printed, logged or recorded."""

from __future__ import annotations

import re

_USER = re.compile(r"(?<=://)[^/?#\s'\"]*@")
_PARAMETER = re.compile(r"(?<=[?&])([^=&#\s'\"]+)=[^&#\s'\")]*")
_PLAIN_USERS = ("abfs", "abfss", "wasb", "wasbs")
"""Where a name before @ is a container of the account."""


def holds_password(url: str) -> bool:
    """`https://token@host` and `s3://key:secret@bucket`, but not the container of `abfs://container@account`."""
    found = _USER.search(url)
    return found is not None and (":" in found[0] or not url.startswith(_PLAIN_USERS))


def shown_url(text: str) -> str:
    """The URL, or a text that holds URLs, without user, password and the values of the query: signed URLs have keys."""
    hidden = _USER.sub("***@", text) if holds_password(text) else text
    return _PARAMETER.sub(r"\1=***", hidden) if "://" in hidden else hidden
