"""Sources elsewhere: hf://, s3://, gs://, https:// and whatever else fsspec can open, kept here by content."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gitune.dataset.filesystem import first_line, missing_package, open_filesystem
from gitune.dataset.sources import SourceFile
from gitune.errors import UserError
from gitune.files import read_json, write_atomic

_VERSIONS = ("ETag", "etag", "e_tag", "oid", "blob_id", "md5Hash", "generation", "VersionId")
"""What file systems call the thing that changes with the content."""
_BLOCK_BYTES = 1 << 20


def fetch_remote(url: str, pinned: str | None, root: Path) -> SourceFile:
    """The file at `url`, downloaded unless it is here already. Raises UserError.

    A pinned file is asked for once, ever. Another is asked for its version each time, and downloaded when that is new
    or when the other side has none. The name of the local file is the SHA-256 of its content.
    """
    folder = root / ".gitune" / "sources"
    if pinned is not None and (folder / pinned).is_file():
        return SourceFile.of(folder / pinned, url, _name(url))
    filesystem, path = open_filesystem(url)
    note = folder / f"{hashlib.sha256(url.encode()).hexdigest()}.json"
    try:
        version = _version(filesystem.info(path))
        known = read_json(note)
        if version and isinstance(known, dict) and known.get("version") == version:
            kept = folder / str(known.get("sha256"))
            if kept.is_file() and pinned is None:
                return SourceFile.of(kept, url, _name(url))
        digest = _download(filesystem, path, folder)
    except ImportError as error:  # some file systems import their client when they are first used
        raise missing_package(url, error) from error
    except Exception as error:
        message = f"{url}: cannot be read: {first_line(error)}"
        raise UserError(message, hint="check the address and your credentials") from error
    if pinned is not None and digest != pinned:
        message = f"{url}: its content has SHA-256 {digest}, but sha256 says {pinned}"
        raise UserError(message, hint="review what changed there, then pin the new one")
    write_atomic(note, json.dumps({"url": url, "version": version, "sha256": digest}) + "\n")
    return SourceFile.of(folder / digest, url, _name(url))


def _version(info: Mapping[str, Any]) -> str:
    return next((str(info[name]) for name in _VERSIONS if info.get(name)), "")


def _download(filesystem: Any, path: str, folder: Path) -> str:
    """Stream the file into `folder` under its SHA-256, in hexadecimal; that name is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".tmp-", dir=folder)
    digest = hashlib.sha256()
    try:
        with os.fdopen(handle, "wb") as target, filesystem.open(path, "rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
                target.write(block)
        Path(name).replace(folder / digest.hexdigest())
    finally:
        Path(name).unlink(missing_ok=True)
    return digest.hexdigest()


def _name(url: str) -> str:
    return url.partition("?")[0].partition("#")[0].rpartition("/")[2]
