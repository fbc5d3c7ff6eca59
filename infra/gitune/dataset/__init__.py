"""Sources → examples → rules → choice → split → files and a fingerprint."""

from gitune.dataset.artifact import dataset_folder, write_dataset
from gitune.dataset.build import Dataset, build_dataset, check_dataset

__all__ = ["Dataset", "build_dataset", "check_dataset", "dataset_folder", "write_dataset"]
