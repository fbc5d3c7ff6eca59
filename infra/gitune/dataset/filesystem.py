"""What fsspec opens: sources elsewhere, and stores."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gitune.dataset.urls import shown_url
from gitune.errors import UserError

_PACKAGES: Mapping[str, tuple[str, str]] = {  # scheme → package, and the extra of gitune that brings it
    "hf": ("huggingface_hub", "data"),
    "s3": ("s3fs", "s3"),
    "gs": ("gcsfs", "gs"),
    "http": ("aiohttp", "data"),
    "https": ("aiohttp", "data"),
}


def open_filesystem(url: str, options: Mapping[str, Any] = MappingProxyType({})) -> tuple[Any, str]:
    """fsspec's file system and the path in it. Raises UserError for a scheme or a package that is not there."""
    try:
        import fsspec

        filesystem, path = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        raise missing_package(url, error) from error
    except ValueError as error:
        raise UserError(
            f"{shown_url(url)}: {shown_url(str(error))}", hint="known: hf://, s3://, gs://, https://"
        ) from error
    return filesystem, path


def missing_package(url: str, error: ImportError) -> UserError:
    """Some file systems import their client only when they are first used."""
    package, extra = _PACKAGES.get(url.partition("://")[0], (error.name or "of its file system", None))
    if error.name == "fsspec":
        package, extra = "fsspec", "data"
    return UserError(
        f"{shown_url(url)}: needs the package {package}", hint=f"pip install 'gitune[{extra}]'" if extra else None
    )


def first_line(error: Exception) -> str:
    """What a library says of its failure, fit for a line."""
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
