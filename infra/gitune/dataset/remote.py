"""Sources elsewhere: hf://, s3://, gs://, https:// and whatever else fsspec can open, kept here by content."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gitune.dataset.filesystem import missing_package, open_filesystem
from gitune.dataset.sources import SourceFile
from gitune.dataset.urls import shown_url
from gitune.errors import UserError
from gitune.files import read_json, write_atomic

_VERSIONS = ("ETag", "etag", "e_tag", "oid", "blob_id", "md5Hash", "generation", "VersionId")
"""What file systems call the thing that changes with the content."""


def fetch_remote(url: str, pinned: str | None, root: Path) -> SourceFile:
    """The file at `url`, downloaded unless it is here already. Raises UserError.

    A pinned file is asked for once, ever. Another is asked for its version each time, and downloaded when that is new
    or when the other side has none. The name of the local file is the SHA-256 of its content.
    """
    folder, shown = root / ".gitune" / "sources", shown_url(url)
    if pinned is not None and (folder / pinned).is_file():
        return SourceFile.of(folder / pinned, shown, _name(url))
    filesystem, path = open_filesystem(url)
    note = folder / f"{hashlib.sha256(url.encode()).hexdigest()}.json"
    try:
        filesystem.invalidate_cache()
        version = _version(filesystem.info(path))
        known = read_json(note)
        if version and isinstance(known, dict) and known.get("version") == version:
            kept = folder / str(known.get("sha256"))
            if kept.is_file() and pinned is None:
                return SourceFile.of(kept, shown, _name(url))
        digest = _download(filesystem, path, folder)
    except ImportError as error:  # some file systems import their client when they are first used
        raise missing_package(url, error) from error
    except Exception as error:
        detail, hint = _reason(error)
        raise UserError(f"{shown}: cannot be read: {detail}", hint=hint) from error
    if pinned is not None and digest != pinned:
        message = f"{shown}: its content has SHA-256 {digest}, but sha256 says {pinned}"
        raise UserError(message, hint="review what changed there, then pin the new one")
    write_atomic(note, json.dumps({"url": shown, "version": version, "sha256": digest}) + "\n")
    return SourceFile.of(folder / digest, shown, _name(url))


def _version(info: Mapping[str, Any]) -> str:
    return next((str(info[name]) for name in _VERSIONS if info.get(name)), "")


def _download(filesystem: Any, path: str, folder: Path) -> str:
    """The file in `folder` under its SHA-256, in hexadecimal; that name is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".tmp-", dir=folder)
    os.close(handle)
    try:
        filesystem.get_file(path, name)  # as a stream, where the file system can
        with Path(name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        Path(name).replace(folder / digest)
    finally:
        Path(name).unlink(missing_ok=True)
    return digest


def _reason(error: Exception) -> tuple[str, str]:
    """Why a file cannot be read, and what to do. fsspec hides the server's answer behind a FileNotFoundError."""
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    status = getattr(cause, "status", None) or getattr(getattr(cause, "response", None), "status_code", None)
    said = " ".join(str(getattr(cause, "message", cause)).split()) or type(cause).__name__
    said = shown_url(said)[:160]
    if not isinstance(status, int):
        return said, "check the address, the network and your credentials"
    if status in (401, 403):
        hint = "check your credentials: they come from the environment, or from the client's own configuration"
    elif status >= 500:
        hint = "the other side is at fault: try again later"
    else:
        hint = "check the address"
    return f"HTTP {status} {said}", hint


def _name(url: str) -> str:
    return url.partition("?")[0].partition("#")[0].rpartition("/")[2]
