"""The providers, by name. Only who is asked for is imported, and the type checker holds each one to the protocol.

Others come from installed packages, through the entry point group `gitune.providers`; see docs/add-a-provider.md.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import cast

from gitune.errors import UserError
from gitune.hints import did_you_mean, one_of
from gitune.providers.base import Provider, ProviderClass
from gitune.providers.settings import ProviderSettings
from gitune.stack_spec import StackSpec
from gitune.validation import validate_block
from gitune.yaml_source import YamlSource

GROUP = "gitune.providers"


def _bedrock() -> ProviderClass:
    from gitune.providers.bedrock import BedrockProvider

    return BedrockProvider


def _huggingface() -> ProviderClass:
    from gitune.providers.huggingface import HuggingFaceProvider

    return HuggingFaceProvider


def _local() -> ProviderClass:
    from gitune.providers.local import LocalProvider

    return LocalProvider


def _mistral() -> ProviderClass:
    from gitune.providers.mistral import MistralProvider

    return MistralProvider


def _openai() -> ProviderClass:
    from gitune.providers.openai import OpenAIProvider

    return OpenAIProvider


def _ray() -> ProviderClass:
    from gitune.providers.ray import RayProvider

    return RayProvider


PROVIDERS: dict[str, Callable[[], ProviderClass]] = {
    "bedrock": _bedrock,
    "huggingface": _huggingface,
    "local": _local,
    "mistral": _mistral,
    "openai": _openai,
    "ray": _ray,
}


def provider_class(name: str) -> ProviderClass:
    """The provider with this name, ours or an installed package's. Raises UserError for a name nobody knows."""
    if name in PROVIDERS:
        return PROVIDERS[name]()
    others = _others()
    if name not in others:
        known = sorted({*PROVIDERS, *others})
        raise UserError(f"no provider '{name}'", hint=did_you_mean(name, known) or one_of(known))
    try:
        return cast(ProviderClass, others[name].load())
    except (ImportError, AttributeError) as error:
        package = getattr(others[name].dist, "name", others[name].value)
        message = f"provider '{name}' of package {package} cannot be loaded: {error}"
        raise UserError(message, hint=f"reinstall {package}") from error


def open_provider(name: str, root: Path, stack: StackSpec) -> Provider:
    """The provider with this name, set up as the stack says. Calls nobody. Raises UserError."""
    return provider_class(name)(provider_settings(name, stack), root)


def provider_settings(name: str, stack: StackSpec) -> ProviderSettings:
    """The provider's block of the stack, defaults filled in. Raises UserError."""
    return provider_class(name).settings.model_validate(stack.providers.get(name, {}))


def check_settings(stack: StackSpec, source: YamlSource) -> None:
    """Check the blocks below `gitune:providers`. Raises InvalidInput with their lines, or UserError."""
    for name, block in stack.providers.items():
        validate_block(provider_class(name).settings, block, source, ("config", "gitune:providers", name))


@functools.cache
def _others() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}
