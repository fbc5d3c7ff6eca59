"""Sources → examples → rules → choice → split → files and a fingerprint.

Imported when first used: the processes that read large files need only a few of these modules, and start at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gitune.dataset.artifact import dataset_folder, write_dataset
    from gitune.dataset.build import Dataset, build_dataset

__all__ = ["Dataset", "build_dataset", "dataset_folder", "write_dataset"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gitune.dataset import artifact, build

    return getattr(artifact if hasattr(artifact, name) else build, name)
