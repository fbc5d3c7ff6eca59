"""Rules that clean a dataset or refuse it; nothing leaves it without a finding that says so."""

from gitune.dataset.rules.base import DEFAULTS, Counts, Finding, Hit, Settings
from gitune.dataset.rules.run import RULES, Cleaned, apply

__all__ = ["DEFAULTS", "RULES", "Cleaned", "Counts", "Finding", "Hit", "Settings", "apply"]
