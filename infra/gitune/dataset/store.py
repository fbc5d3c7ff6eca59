"""The store: where datasets are published, on anything that fsspec opens.

`<store>/<fingerprint>/` holds the same files as `.gitune/datasets/<fingerprint>/`. The manifest is written last: what
has none is not published, whoever was killed while writing it. What is published is never written again.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitune.dataset.filesystem import first_line, missing_package, open_filesystem
from gitune.dataset.folder import dataset_folder, new_folder
from gitune.dataset.manifest import MANIFEST_FILE, Manifest, read_manifest, verify
from gitune.errors import GituneError, UserError
from gitune.store_url import FILE_SCHEMES

if TYPE_CHECKING:
    from gitune.project import Project

_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "s3": {"config_kwargs": {"retries": {"total_max_attempts": 2}}},  # one that is away is said in seconds
}


@dataclass(frozen=True, slots=True)
class Store:
    """One place of published datasets. Everything that asks it raises UserError when it cannot be reached."""

    url: str
    """As the stack's config has it: a path is relative to the repository. Holds no credential."""
    root: Path
    """The repository."""

    @classmethod
    def of(cls, project: Project) -> Store:
        """The store of a stack."""
        return cls(project.stack.store, project.root)

    def url_of(self, fingerprint: str) -> str:
        """Where a dataset is published, whether it is or not; the same in every clone."""
        return f"{self.url.rstrip('/')}/{fingerprint}"

    def holds(self, fingerprint: str) -> bool:
        """Whether the dataset is published: one small file is read."""
        with self._asked("cannot be read") as (filesystem, base):
            return Manifest.parse(_manifest_bytes(filesystem, f"{base}/{fingerprint}"), fingerprint) is not None

    def publish(self, folder: Path) -> None:
        """Copy a dataset's folder, unless it is published already. Two at once write the same bytes."""
        shown = folder.relative_to(self.root).as_posix()
        manifest = read_manifest(folder)
        if manifest is None:
            raise UserError(f"{shown} is not a whole dataset", hint="run: gitune up")
        if self.holds(folder.name):
            return
        verify(folder, manifest, shown)
        with self._asked("cannot be written") as (filesystem, base):
            for name in (*manifest.files, MANIFEST_FILE):
                _put(filesystem, folder / name, f"{base}/{folder.name}/{name}")

    def find(self, prefix: str) -> list[str]:
        """The fingerprints that begin so, half-published ones among them."""
        with self._asked("cannot be read") as (filesystem, base):
            try:
                entries = filesystem.ls(base, detail=False, refresh=True)
            except FileNotFoundError:  # nothing was ever published
                return []
        names = {str(entry).rstrip("/").rpartition("/")[2] for entry in entries}
        return sorted(name for name in names if name.startswith(prefix) and _FINGERPRINT.fullmatch(name))

    def restore(self, fingerprint: str) -> Path:
        """Download a dataset to its folder in the repository. A wrong byte is a UserError, and leaves nothing."""
        folder = dataset_folder(self.root, fingerprint)
        with new_folder(folder, replace=True) as work:
            with self._asked("cannot be read") as (filesystem, base):
                data = _manifest_bytes(filesystem, f"{base}/{fingerprint}")
                manifest = Manifest.parse(data, fingerprint)
                if manifest is None:
                    message = f"{self.url_of(fingerprint)}: no dataset is published there, or only a part of it"
                    raise UserError(message, hint="run gitune up where the agent's sources are: it publishes it")
                for name in manifest.files:
                    filesystem.get_file(f"{base}/{fingerprint}/{name}", str(work / name))
            (work / MANIFEST_FILE).write_bytes(data)
            verify(work, manifest, self.url_of(fingerprint))
        return folder

    def put_note(self, name: str, text: str) -> None:
        """Write a small file beside the datasets, in one step; an older one of this name is replaced."""
        with self._asked("cannot be written") as (filesystem, base):
            path = f"{base}/{name}"
            if not getattr(filesystem, "local_file", False):
                filesystem.pipe_file(path, text.encode())
                return
            part = f"{path}.{secrets.token_hex(4)}.part"
            filesystem.pipe_file(part, text.encode())
            filesystem.mv(part, path)

    def note_names(self, folder: str) -> set[str]:
        """The names of a folder's notes."""
        with self._asked("cannot be read") as (filesystem, base):
            return {path.rpartition("/")[2] for path in _notes(filesystem, f"{base}/{folder}")}

    def notes(self, folder: str) -> dict[str, bytes]:
        """The notes of a folder, by name."""
        with self._asked("cannot be read") as (filesystem, base):
            paths = _notes(filesystem, f"{base}/{folder}")
            found: dict[str, bytes] = filesystem.cat(paths, on_error="omit") if paths else {}
        return {path.rpartition("/")[2]: data for path, data in found.items()}

    @contextlib.contextmanager
    def _asked(self, failure: str) -> Iterator[tuple[Any, str]]:
        """The file system, and the store's path in it, for a block.

        File systems raise what their client libraries raise; all of it means that the store did not do it.
        """
        try:
            filesystem, base = open_filesystem(*self._address())
            yield filesystem, base.rstrip("/")
        except GituneError:
            raise
        except ImportError as error:
            raise missing_package(self.url, error) from error
        except Exception as error:
            raise UserError(f"store {self.url} {failure}: {first_line(error)}", hint=_HINT) from error

    def _address(self) -> tuple[str, Mapping[str, Any]]:
        """The URL for fsspec, and the options of its file system."""
        scheme, separator, path = self.url.partition("://")
        if not separator or scheme in FILE_SCHEMES:
            return str(self.root / (path if separator else self.url)), {"auto_mkdir": True}
        return self.url, _OPTIONS.get(scheme, {})


_FINGERPRINT = re.compile(r"[0-9a-f]{64}")  # notes have a folder beside the datasets
_HINT = "check gitune:store in Pulumi.<stack>.yaml, the network and your credentials, then run the same command again"


def _notes(filesystem: Any, folder: str) -> list[str]:
    """Their paths; one that is being written has another ending."""
    try:
        entries = filesystem.ls(folder, detail=False, refresh=True)
    except FileNotFoundError:
        return []
    return [str(entry) for entry in entries if str(entry).endswith(".json")]


def _manifest_bytes(filesystem: Any, folder: str) -> bytes:
    """Empty where there is none."""
    try:
        data: bytes = filesystem.cat_file(f"{folder}/{MANIFEST_FILE}")
    except FileNotFoundError:
        return b""
    return data


def _put(filesystem: Any, file: Path, path: str) -> None:
    """Object stores show an object when it is whole; on a disk that takes a new name and a renaming."""
    if not getattr(filesystem, "local_file", False):
        filesystem.put_file(str(file), path)
        return
    part = f"{path}.{secrets.token_hex(4)}.part"
    filesystem.put_file(str(file), part)
    filesystem.mv(part, path)
