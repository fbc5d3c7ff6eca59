"""For those who write a provider: the suite that every provider passes. Needs pytest."""

from gitune.testing.conformance import ProviderConformance
from gitune.testing.world import Fault, World

__all__ = ["Fault", "ProviderConformance", "World"]
