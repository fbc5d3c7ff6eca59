"""Sources → examples → validate → split → files and a fingerprint."""

from gitune.dataset.artifact import Dataset, build_dataset, check_dataset, dataset_folder, write_dataset

__all__ = ["Dataset", "build_dataset", "check_dataset", "dataset_folder", "write_dataset"]
