"""The Hugging Face Hub as gitune uses it: one account, small files, whole snapshots, and what its errors mean."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gitune.errors import NotFound, ProviderError, Rejected, Unauthorized, Unavailable
from gitune.hashing import sha256
from gitune.providers.wire import error_of_status, retry_after_seconds

BILLING = "Jobs need credits: https://huggingface.co/settings/billing"
_HINTS: Mapping[int, str] = MappingProxyType(
    {
        401: "is the token still good? hf auth whoami",
        402: BILLING,
        403: "the token must be allowed to write repositories and to start jobs",
    }
)


@dataclass(frozen=True)
class Hub:
    """An account at one endpoint. The token is read from the environment at each call, never kept."""

    endpoint: str | None
    """None: HF_ENDPOINT, else https://huggingface.co."""
    token_variable: str
    timeout_seconds: float

    def token(self) -> str:
        """Raises Unauthorized, which says what to set."""
        token = os.environ.get(self.token_variable)
        if not token:
            hint = f"export {self.token_variable}=$(hf auth token)"
            raise Unauthorized(f"{self.token_variable} is not set", hint=hint)
        return token

    def api(self) -> Any:
        """An HfApi, made anew for each use: it holds the token."""
        token, sdk = self.token(), _sdk()
        _prepare(self.timeout_seconds)
        return sdk.HfApi(endpoint=self.endpoint, token=token, library_name="gitune")

    def get(self, url: str, params: list[tuple[str, str]] | None = None) -> Any:
        """One GET, its answer as it is. HfApi's own lists try again for half a minute before they tell of an error."""
        self.api()  # sets up the client
        from huggingface_hub.utils import build_hf_headers, get_session

        headers = build_hf_headers(token=self.token(), library_name="gitune")
        return get_session().get(url, params=params, headers=headers)

    def pages(self, url: str, params: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
        """All items of a list, page by page. https://huggingface.co/docs/hub/api has the Link header."""
        from huggingface_hub.utils import hf_raise_for_status

        following: str | None = url
        while following is not None:
            response = self.get(following, params if following == url else None)  # a link has the parameters in it
            hf_raise_for_status(response)
            yield from response.json()
            following = response.links.get("next", {}).get("url")

    def read_json(self, repository: str, name: str) -> dict[str, Any] | None:
        """A small JSON file of a model repository; None where file or repository is missing. Nothing is cached."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import hf_raise_for_status

        response = self.get(hf_hub_url(repository, name, endpoint=self.api().endpoint))
        if response.status_code == 404:
            return None
        hf_raise_for_status(response)
        return dict(response.json())

    def add_files(self, repository: str, files: Mapping[str, bytes], *, private: bool) -> None:
        """Put into a dataset repository what it lacks of these files, named by their content. Makes the repository."""
        from huggingface_hub import CommitOperationAdd
        from huggingface_hub.errors import RepositoryNotFoundError

        api = self.api()
        try:
            there = {item.path for item in api.get_paths_info(repository, list(files), repo_type="dataset")}
        except RepositoryNotFoundError:
            api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
            there = set()
        additions = [CommitOperationAdd(name, data) for name, data in files.items() if name not in there]
        if additions:
            message = f"gitune: {len(additions)} files"
            api.create_commit(repository, additions, commit_message=message, repo_type="dataset")

    def download(self, repository: str, folder: Path) -> None:
        """A model repository as it is now into `folder`, which appears when it is whole. source.json has the commit."""
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            api = self.api()
            revision = api.model_info(repository).sha
            api.snapshot_download(repository, revision=revision, local_dir=temporary)
            shutil.rmtree(temporary / ".cache", ignore_errors=True)
            source = {"repository": repository, "revision": revision}
            (temporary / "source.json").write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")
            temporary.chmod(0o755)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def check_access(self, base_model: str) -> None:
        """Raises Unauthorized for a gated model whose licence nobody accepted, Rejected for one that is not there."""
        api = self.api()
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

        try:
            api.auth_check(base_model)
        except GatedRepoError:
            hint = f"accept its licence at https://huggingface.co/{base_model}, or name another base_model"
            raise Unauthorized(f"{base_model} is gated, and this token may not read it", hint=hint) from None
        except RepositoryNotFoundError as error:
            if error.response.status_code != 404:
                raise
            raise Rejected(f"no base model '{base_model}' on the Hub", hint="or it is private") from None

    def account(self) -> str:
        """Whose token it is. Asked once in a process: the Hub limits this question strictly."""
        return _account(self, sha256([self.token()]))


@functools.cache
def _account(hub: Hub, _token: str) -> str:
    return str(hub.api().whoami()["name"])


def _sdk() -> Any:
    try:
        import huggingface_hub.errors
    except ImportError as error:
        message = "provider huggingface needs the package huggingface-hub"
        raise Unauthorized(message, hint="pip install 'gitune[huggingface]'") from error
    return huggingface_hub


@functools.cache
def _prepare(timeout_seconds: float) -> None:
    """The SDK's HTTP client waits for ever unless told otherwise; it has one for the whole process."""
    from huggingface_hub.utils import disable_progress_bars, set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    def factory() -> Any:
        client = default_client_factory()
        client.timeout = timeout_seconds
        return client

    set_client_factory(factory)
    disable_progress_bars()


@contextlib.contextmanager
def sdk_errors() -> Iterator[None]:
    """Every error of the SDK as one of gitune's."""
    http_error = _sdk().errors.HTTPError
    try:
        yield
    except ProviderError:
        raise
    except (http_error, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise _provider_error(error) from None  # the cause has the request with its headers


def _provider_error(error: Exception) -> ProviderError:
    from huggingface_hub import errors

    told = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError | RuntimeError) else error
    if isinstance(told, errors.HfHubHTTPError):
        status, after = told.response.status_code, told.response.headers.get("Retry-After")
        message = _one_line(told.server_message or str(told)) or f"HTTP {status}"
        return error_of_status(status, message, retry_after=retry_after_seconds(after), hint=_HINTS.get(status))
    if isinstance(told, errors.OfflineModeIsEnabled):
        return Unavailable("HF_HUB_OFFLINE is set", hint="unset it to reach the Hub")
    if isinstance(told, errors.HFValidationError):
        return NotFound(_one_line(str(told)))
    return Unavailable(_one_line(f"{type(error).__name__}: {error}"))


def _one_line(text: str) -> str:
    return " ".join(text.split())
