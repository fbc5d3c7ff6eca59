"""GitHub's API, through PyGithub: its limits waited out, its refusals in words."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

import click
import requests
from github import Auth, Github, GithubException, GithubRetry, RateLimitExceededException
from github.GithubException import RateLimitExceededExceedsMaxWait
from github.NamedUser import NamedUser
from github.Repository import Repository

from gitune.errors import UserError
from gitune.github.context import Context

_T = TypeVar("_T")
_LONGEST_LIMIT_SECONDS = 300.0
"""A limit that takes longer ends the command; the next run goes on."""
_LAG_SECONDS = (0.2, 0.5, 1.0, 2.0, 4.0)
"""What was just written may not be found at once."""


class _Waits(logging.Handler):
    """Of what PyGithub logs, only for what it makes us wait; it prints all of it where nobody says otherwise."""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message.startswith(("Retrying after", "Setting next backoff")):
            click.echo(f"GitHub's limit: {message[0].lower()}{message[1:]}", err=True)


logging.getLogger("github").handlers = [_Waits()]
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # what came of it, we say


class _Retry(GithubRetry):
    """What creates something is sent again only where GitHub said that it did nothing."""

    def is_retry(self, method: str, status_code: int, has_retry_after: bool = False) -> bool:
        if method == "POST" and status_code in (HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS):
            return bool(self.total)
        return super().is_retry(method, status_code, has_retry_after)


@dataclass(frozen=True, slots=True)
class Client:
    """One repository, as the token's owner may see it."""

    context: Context
    repository: Repository
    user: NamedUser
    login: str
    """Who comments and issues of ours are by, such as github-actions[bot]."""

    def is_ours(self, user: Any) -> bool:
        """Whether somebody is the token's owner. GraphQL leaves out an App's [bot], which no person's name can have."""
        return user is not None and user.login in (self.login, f"{self.login}[bot]")


@contextmanager
def connected(context: Context) -> Iterator[Client]:
    """A client; raises UserError within for whatever GitHub refuses, as one line and a hint."""
    token = os.environ.get("GITHUB_TOKEN") or os.environ.get("GH_TOKEN")
    if not token:
        hint = "in a workflow: env: GITHUB_TOKEN: ${{ github.token }}; on a laptop: GITHUB_TOKEN=$(gh auth token)"
        raise UserError("no token for GitHub: GITHUB_TOKEN is not set", hint=hint)
    pause = float(os.environ.get("GITUNE_GITHUB_PAUSE", "1"))
    github = Github(
        auth=Auth.Token(token),
        base_url=context.api_url,
        retry=_Retry(
            total=5,
            backoff_factor=pause / 2,
            allowed_methods={"GET", "HEAD", "PATCH", "PUT", "DELETE"},
            max_rate_limit_wait=_LONGEST_LIMIT_SECONDS,
        ),
        per_page=100,
        seconds_between_requests=min(pause, 0.25),
        seconds_between_writes=pause,  # as GitHub asks for: "Best practices for using the REST API"
        lazy=True,
    )
    try:
        _, said = github.requester.graphql_query("query { viewer { login } }", {})
        login = str(said["data"]["viewer"]["login"])
        yield Client(context, github.get_repo(context.repository), _user(github, login), login)
    except GithubException as error:
        raise refusal_of(error, context.repository) from error
    except requests.RequestException as error:
        message = f"GitHub was not reached at {context.api_url}: {type(error).__name__}"
        raise UserError(message, hint="run the same command again: what is done is not done twice") from error
    finally:
        github.close()


def eventually(call: Callable[[], _T]) -> _T:
    """A call that rests on what was written a moment ago, which GitHub may answer with 404, 409 or 422 at first."""
    for pause in _LAG_SECONDS:
        try:
            return call()
        except GithubException as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY):
                raise
        time.sleep(pause)
    return call()


def _user(github: Github, login: str) -> NamedUser:
    """Asked for nothing: only its name is used."""
    return NamedUser(github.requester, {}, {"login": login}, completed=True)


def refusal_of(error: GithubException, repository: str) -> UserError:
    """What GitHub said, in a line and a hint."""
    again = "run the same command again: what is done is not done twice"
    if isinstance(error, RateLimitExceededException | RateLimitExceededExceedsMaxWait):
        return UserError("GitHub's rate limit is reached", hint=f"it ends within the hour; {again}")
    hints: dict[int, str] = {
        HTTPStatus.UNAUTHORIZED: "the token is wrong or has ended: set GITHUB_TOKEN anew",
        HTTPStatus.FORBIDDEN: "the token may not do this: gitune's docs/github-setup.md has each job's rights",
        HTTPStatus.NOT_FOUND: f"does {repository} exist, and may the token see it?",
    }
    said = error.data.get("message") if isinstance(error.data, dict) else None
    details = error.data.get("errors") if isinstance(error.data, dict) else None
    more = "; ".join(str(one.get("message") or one) if isinstance(one, dict) else str(one) for one in details or ())
    words = f"{said or 'no reason given'}{f' ({more})' if more else ''}"
    return UserError(f"GitHub answered {error.status}: {words[:300]}", hint=hints.get(error.status, again))
