"""A dataset by its fingerprint, or the beginning of it: from this machine, else from the store."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from gitune.dataset.folder import dataset_folder
from gitune.dataset.manifest import read_manifest, verify
from gitune.dataset.store import Store
from gitune.errors import UserError

FINGERPRINT = re.compile(r"[0-9a-f]{8,64}")
"""A whole one has 64 digits; fewer than eight are a typing error."""
_WHOLE = 64


def restore_dataset(prefix: str, store: Store) -> Path:
    """The dataset's folder, every byte checked; downloaded where it is missing or damaged here. Raises UserError."""
    if not FINGERPRINT.fullmatch(prefix):
        raise UserError(f"'{prefix}' is not a fingerprint", hint="64 hexadecimal digits, or at least the first eight")
    fingerprint = prefix if len(prefix) == _WHOLE else _complete(prefix, store)
    folder = dataset_folder(store.root, fingerprint)
    manifest = read_manifest(folder)
    if manifest is not None:
        with contextlib.suppress(UserError):
            verify(folder, manifest, folder.name)
            return folder
    return store.restore(fingerprint)


def find_dataset(prefix: str, store: Store) -> Path:
    """As it is here, else restored. Raises UserError."""
    here = _here(prefix, store)
    if len(here) == 1:
        return dataset_folder(store.root, here[0])
    if not here and FINGERPRINT.fullmatch(prefix):
        return restore_dataset(prefix, store)
    raise _not_one(prefix, here, _here("", store), "here")


def _complete(prefix: str, store: Store) -> str:
    published = store.find(prefix)
    found = sorted({*_here(prefix, store), *published})
    if len(found) != 1:
        raise _not_one(prefix, found, store.find(""), f"in {store.url}")
    return found[0]


def _here(prefix: str, store: Store) -> list[str]:
    folders = sorted(dataset_folder(store.root, "").glob("*"))
    return [path.name for path in folders if path.name.startswith(prefix) and read_manifest(path) is not None]


def _not_one(prefix: str, found: list[str], known: list[str], where: str) -> UserError:
    count = f"{len(found)} datasets" if found else "no dataset"
    some = ", ".join(name[:12] for name in (found or known)[:_SHOWN])
    return UserError(f"{count} '{prefix}' {where}", hint=f"known: {some}" if some else "run: gitune dataset build")


_SHOWN = 8
