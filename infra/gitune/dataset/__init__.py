"""Sources → examples → rules → choice → split → files and a fingerprint.

Imported when first used: the processes that read large files need only a few of these modules, and start at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gitune.dataset.artifact import write_dataset
    from gitune.dataset.build import Dataset, build_dataset
    from gitune.dataset.folder import dataset_folder

__all__ = ["Dataset", "build_dataset", "dataset_folder", "write_dataset"]

_MODULES = {
    "Dataset": "gitune.dataset.build",
    "build_dataset": "gitune.dataset.build",
    "dataset_folder": "gitune.dataset.folder",
    "write_dataset": "gitune.dataset.artifact",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
