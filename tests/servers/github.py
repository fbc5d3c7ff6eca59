"""GitHub's REST API for one repository, over a real bare git repository: what `gitune github` asks, as docs.github.com
has it: pages, rights by token, limits, and reads that lag behind writes."""

from __future__ import annotations

import base64
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.servers.base import HttpServer, Request, Response, route

NAME = "example/agents"
TOKEN = "ghs_planted-token-of-actions"
PERSON_TOKEN = "ghp_planted-token-of-ada"
BOT = "github-actions[bot]"
LOGINS = {TOKEN: BOT, PERSON_TOKEN: "ada"}
LONGEST = 65_536


@dataclass
class Texts:
    """Issues and pull requests share their numbers."""

    issues: dict[int, dict[str, Any]] = field(default_factory=dict)
    pulls: dict[int, dict[str, Any]] = field(default_factory=dict)
    comments: dict[int, dict[str, Any]] = field(default_factory=dict)


class GitHubServer(HttpServer):
    """`lag`: for so many requests a new branch is not seen by what rests on it; `forbidden`: paths that answer 403."""

    def __init__(self, origin: Path) -> None:
        super().__init__()
        self.origin = origin
        self.texts = Texts()
        self.checks: dict[int, dict[str, Any]] = {}
        self.statuses: list[dict[str, Any]] = []
        self.deployments: dict[int, dict[str, Any]] = {}
        self.lag = 0
        self.forbidden: set[str] = set()
        self.limited: list[Response] = []
        """Answered, in turn, before anything is done."""
        self._unseen: dict[str, int] = {}
        self._login = ""

    # --- for tests

    def open_pull(self, branch: str, *, login: str = "ada", base: str = "main", title: str = "", body: str = "") -> int:
        """As a person opens it."""
        return int(self._open_pull(login, branch, base, title, body)["number"])

    def merged(self, number: int) -> None:
        """Somebody merged it, and pushed the merge."""
        self.texts.pulls[number] |= {"state": "closed", "merged_at": self._now()}

    def comment(self, number: int, body: str, login: str = "ada") -> None:
        """Somebody else's."""
        self._comment(number, body, login)

    def bodies(self, number: int) -> list[str]:
        """Of the comments of an issue or pull request."""
        return [one["body"] for one in self.texts.comments.values() if one["number"] == number]

    def git(self, *arguments: str, stdin: str | None = None) -> str:
        """git in the repository."""
        who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in _BOT_PERSON.items()}
        done = subprocess.run(
            ["git", *arguments], cwd=self.origin, input=stdin, env=who, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    # --- the exchange

    def error(self, status: int, message: str) -> Response:
        return Response(status, {"message": message, "documentation_url": "https://docs.github.com/rest"})

    def authorize(self, request: Request) -> Response | None:
        if self.limited:
            return self.limited.pop(0)
        token = (request.headers["Authorization"] or "").removeprefix("token ").removeprefix("Bearer ")
        if token not in LOGINS:
            return self.error(401, "Bad credentials")
        self._login = LOGINS[token]
        if any(re.search(pattern, f"{request.method} {request.path}") for pattern in self.forbidden):
            return self.error(403, "Resource not accessible by integration")
        return None

    @route("POST", "/graphql")
    def graphql(self, request: Request) -> Response:
        assert "viewer" in request.json["query"]
        return Response(200, {"data": {"viewer": {"login": self._login}}})

    @route("GET", "/repos/example/agents")
    def repository(self, _request: Request) -> Response:
        return Response(200, {"full_name": NAME, "name": "agents", "url": self._url(""), "default_branch": "main"})

    # --- issues, comments

    @route("GET", "/repos/example/agents/issues")
    def list_issues(self, request: Request) -> Response:
        query = request.query
        found = [
            self._issue(number)
            for number in sorted({*self.texts.issues, *self.texts.pulls}, reverse=True)
            if query.get("state", "open") in ("all", self._text(number)["state"])
            and query.get("creator", self._text(number)["user"]["login"]) == self._text(number)["user"]["login"]
        ]
        return self._page(request, found)

    @route("POST", "/repos/example/agents/issues")
    def create_issue(self, request: Request) -> Response:
        if len(request.json.get("body") or "") > LONGEST:
            return self.error(422, "Validation Failed")
        number = self.next_number()
        labels = [{"name": name} for name in request.json.get("labels", ())]
        facts = {"title": request.json["title"], "body": request.json.get("body"), "labels": labels}
        self.texts.issues[number] = {
            **facts, "number": number, "state": "open", "state_reason": None, "user": _user(self._login)
        }  # fmt: skip
        return Response(201, self._issue(number))

    @route("GET", r"/repos/example/agents/issues/(?P<number>\d+)")
    def get_issue(self, request: Request) -> Response:
        number = int(request.parts["number"])
        return Response(200, self._issue(number)) if self._has(number) else self.error(404, "Not Found")

    @route("PATCH", r"/repos/example/agents/issues/(?P<number>\d+)")
    def edit_issue(self, request: Request) -> Response:
        number = int(request.parts["number"])
        self._text(number).update({name: request.json[name] for name in _EDITABLE if name in request.json})
        return Response(200, self._issue(number))

    @route("GET", r"/repos/example/agents/issues/(?P<number>\d+)/comments")
    def list_comments(self, request: Request) -> Response:
        number = int(request.parts["number"])
        return self._page(request, [one for one in self.texts.comments.values() if one["number"] == number])

    @route("POST", r"/repos/example/agents/issues/(?P<number>\d+)/comments")
    def create_comment(self, request: Request) -> Response:
        if len(request.json["body"]) > LONGEST:
            return self.error(422, "Validation Failed")
        return Response(201, self._comment(int(request.parts["number"]), request.json["body"], self._login))

    @route("PATCH", r"/repos/example/agents/issues/comments/(?P<id>\d+)")
    def edit_comment(self, request: Request) -> Response:
        found = self.texts.comments.get(int(request.parts["id"]))
        if found is None:
            return self.error(404, "Not Found")
        if found["user"]["login"] != self._login:
            return self.error(403, "Resource not accessible by integration")
        found["body"] = request.json["body"]
        return Response(200, found)

    @route("DELETE", r"/repos/example/agents/issues/comments/(?P<id>\d+)")
    def delete_comment(self, request: Request) -> Response:
        found = self.texts.comments.get(int(request.parts["id"]))
        if found is None or found["user"]["login"] != self._login:
            return self.error(403, "Resource not accessible by integration")
        del self.texts.comments[found["id"]]
        return Response(204)

    # --- pull requests

    @route("GET", "/repos/example/agents/pulls")
    def list_pulls(self, request: Request) -> Response:
        state, head = request.query.get("state", "open"), request.query.get("head")
        found = [
            self._pull(number)
            for number, one in sorted(self.texts.pulls.items(), reverse=True)
            if state in ("all", one["state"]) and head in (None, one["label"])
        ]
        return self._page(request, found)

    @route("POST", "/repos/example/agents/pulls")
    def create_pull(self, request: Request) -> Response:
        asked = request.json
        if self._sha(asked["head"]) is None or self._is_lagging(asked["head"]):
            return self._invalid("head", "invalid")
        if any(one["branch"] == asked["head"] and one["state"] == "open" for one in self.texts.pulls.values()):
            return self._invalid("custom", f"A pull request already exists for example:{asked['head']}.")
        found = self._open_pull(self._login, asked["head"], asked["base"], asked["title"], asked.get("body", ""))
        return Response(201, self._pull(found["number"]))

    @route("GET", r"/repos/example/agents/pulls/(?P<number>\d+)")
    def get_pull(self, request: Request) -> Response:
        number = int(request.parts["number"])
        return Response(200, self._pull(number)) if number in self.texts.pulls else self.error(404, "Not Found")

    @route("PATCH", r"/repos/example/agents/pulls/(?P<number>\d+)")
    def edit_pull(self, request: Request) -> Response:
        number = int(request.parts["number"])
        self.texts.pulls[number].update({name: request.json[name] for name in _EDITABLE if name in request.json})
        return Response(200, self._pull(number))

    @route("GET", r"/repos/example/agents/pulls/(?P<number>\d+)/files")
    def list_files(self, request: Request) -> Response:
        pull = self.texts.pulls[int(request.parts["number"])]
        said = self.git("diff", "--name-status", "--no-renames", f"{pull['base']}...{pull['branch']}").splitlines()
        words = {"A": "added", "M": "modified", "D": "removed"}
        rows = [line.split("\t") for line in said]
        return self._page(request, [{"filename": file, "status": words[status]} for status, file in rows])

    # --- commits and what is said of them

    @route("GET", r"/repos/example/agents/commits/(?P<sha>[0-9a-f]{40})")
    def get_commit(self, request: Request) -> Response:
        return Response(200, {"sha": request.parts["sha"], "url": self._url(f"/commits/{request.parts['sha']}")})

    @route("GET", r"/repos/example/agents/commits/(?P<sha>[0-9a-f]{40})/check-runs")
    def list_checks(self, request: Request) -> Response:
        name, sha = request.query.get("check_name"), request.parts["sha"]
        found = [one for one in self.checks.values() if one["head_sha"] == sha and name in (None, one["name"])]
        return self._page(request, found, within="check_runs")

    @route("POST", "/repos/example/agents/check-runs")
    def create_check(self, request: Request) -> Response:
        if not self._login.endswith("[bot]"):
            return self.error(403, "You must authenticate via a GitHub App.")
        number = self.next_number()
        slug = self._login.removesuffix("[bot]")
        url = self._url(f"/check-runs/{number}")
        self.checks[number] = {
            **request.json,
            "id": number,
            "url": url,
            "app": {"slug": slug, "url": self._url("/app")},
        }
        return Response(201, self.checks[number])

    @route("PATCH", r"/repos/example/agents/check-runs/(?P<id>\d+)")
    def edit_check(self, request: Request) -> Response:
        found = self.checks[int(request.parts["id"])]
        found.update(request.json)
        return Response(200, found)

    @route("POST", r"/repos/example/agents/statuses/(?P<sha>[0-9a-f]{40})")
    def create_status(self, request: Request) -> Response:
        self.statuses.append({**request.json, "sha": request.parts["sha"]})
        return Response(201, self.statuses[-1])

    # --- git

    @route("GET", "/repos/example/agents/branches/(?P<branch>.+)")
    def get_branch(self, request: Request) -> Response:
        sha = self._sha(request.parts["branch"])
        found = {"name": request.parts["branch"], "commit": {"sha": sha, "url": self._url(f"/commits/{sha}")}}
        return Response(200, found) if sha else self.error(404, "Branch not found")

    @route("GET", "/repos/example/agents/git/ref/heads/(?P<branch>.+)")
    def get_ref(self, request: Request) -> Response:
        return self._ref(request.parts["branch"])

    @route("GET", "/repos/example/agents/git/matching-refs/heads/(?P<prefix>.+)")
    def match_refs(self, request: Request) -> Response:
        found = self.git("for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads").split()
        return self._page(request, [self._ref(one).body for one in found if one.startswith(request.parts["prefix"])])

    @route("POST", "/repos/example/agents/git/refs")
    def create_ref(self, request: Request) -> Response:
        branch = request.json["ref"].removeprefix("refs/heads/")
        if self._sha(branch) is not None:
            return self.error(422, "Reference already exists")
        self.git("update-ref", f"refs/heads/{branch}", request.json["sha"])
        self._unseen[branch] = self.lag
        return self._ref(branch, 201)

    @route("PATCH", "/repos/example/agents/git/refs/heads/(?P<branch>.+)")
    def edit_ref(self, request: Request) -> Response:
        branch, sha = request.parts["branch"], request.json["sha"]
        before = self._sha(branch)
        if before is None:
            return self.error(422, "Reference does not exist")
        if not request.json.get("force") and self.git("merge-base", before, sha) != before:
            return self.error(422, "Update is not a fast forward")
        self.git("update-ref", f"refs/heads/{branch}", sha)
        return self._ref(branch)

    @route("DELETE", "/repos/example/agents/git/refs/heads/(?P<branch>.+)")
    def delete_ref(self, request: Request) -> Response:
        self.git("update-ref", "-d", f"refs/heads/{request.parts['branch']}")
        return Response(204)

    @route("GET", r"/repos/example/agents/git/commits/(?P<sha>[0-9a-f]{40})")
    def get_git_commit(self, request: Request) -> Response:
        return Response(200, self._git_commit(request.parts["sha"]))

    @route("POST", "/repos/example/agents/git/commits")
    def create_git_commit(self, request: Request) -> Response:
        parents = [word for parent in request.json["parents"] for word in ("-p", parent)]
        sha = self.git("commit-tree", request.json["tree"], *parents, stdin=request.json["message"])
        return Response(201, self._git_commit(sha))

    @route("GET", "/repos/example/agents/git/trees/(?P<sha>[0-9a-f]{40})")
    def get_tree(self, request: Request) -> Response:
        sha = self.git("rev-parse", f"{request.parts['sha']}^{{tree}}")
        rows = [row.split("\t") for row in self.git("ls-tree", sha).splitlines()]
        tree = [
            {"path": path, **dict(zip(("mode", "type", "sha"), facts.split(), strict=True))} for facts, path in rows
        ]
        return Response(200, {"sha": sha, "url": self._url(f"/git/trees/{sha}"), "tree": tree, "truncated": False})

    @route("POST", "/repos/example/agents/git/trees")
    def create_tree(self, request: Request) -> Response:
        files = {}
        for line in self.git("ls-tree", "-r", request.json["base_tree"]).splitlines():
            facts, _, path = line.partition("\t")
            files[path] = facts
        for one in request.json["tree"]:
            if one.get("sha", "") is None:
                del files[one["path"]]
            else:
                blob = self.git("hash-object", "-w", "--stdin", stdin=one["content"])
                files[one["path"]] = f"{one['mode']} blob {blob}"
        sha = self._written_tree(files)
        return Response(201, {"sha": sha, "url": self._url(f"/git/trees/{sha}"), "tree": []})

    @route("GET", "/repos/example/agents/contents/(?P<path>.+)")
    def get_contents(self, request: Request) -> Response:
        path, ref = request.parts["path"], request.query["ref"]
        done = subprocess.run(["git", "show", f"{ref}:{path}"], cwd=self.origin, capture_output=True, check=False)
        if done.returncode:
            return self.error(404, "Not Found")
        content = base64.encodebytes(done.stdout).decode()
        return Response(200, {"path": path, "type": "file", "encoding": "base64", "content": content})

    # --- deployments

    @route("GET", "/repos/example/agents/deployments")
    def list_deployments(self, request: Request) -> Response:
        task = request.query.get("task")
        found = [one for _, one in sorted(self.deployments.items(), reverse=True) if task in (None, one["task"])]
        return self._page(request, found)

    @route("POST", "/repos/example/agents/deployments")
    def create_deployment(self, request: Request) -> Response:
        number, at = self.next_number(), self._now()
        self.deployments[number] = {
            **request.json, "id": number, "url": self._url(f"/deployments/{number}"), "sha": request.json["ref"],
            "created_at": at, "updated_at": at, "statuses": [],
        }  # fmt: skip
        return Response(201, self.deployments[number])

    @route("GET", r"/repos/example/agents/deployments/(?P<id>\d+)/statuses")
    def list_deployment_statuses(self, request: Request) -> Response:
        return self._page(request, self.deployments[int(request.parts["id"])]["statuses"])

    @route("POST", r"/repos/example/agents/deployments/(?P<id>\d+)/statuses")
    def create_deployment_status(self, request: Request) -> Response:
        found = self.deployments[int(request.parts["id"])]
        found["statuses"].insert(0, {"id": self.next_number(), **request.json})
        found["updated_at"] = self._now()
        return Response(201, found["statuses"][0])

    # --- what they have in common

    def _page(self, request: Request, rows: Sequence[Any], within: str | None = None) -> Response:
        size, page = min(int(request.query.get("per_page", 30)), 100), int(request.query.get("page", 1))
        shown: Any = list(rows[(page - 1) * size : page * size])
        headers = {}
        if page * size < len(rows):
            query = urlencode({**request.query, "page": page + 1})
            last = urlencode({**request.query, "page": -(-len(rows) // size)})
            here = f"{self.url}{request.path}"
            headers["Link"] = f'<{here}?{query}>; rel="next", <{here}?{last}>; rel="last"'
        return Response(200, {"total_count": len(rows), within: shown} if within else shown, headers)

    def _url(self, path: str) -> str:
        return f"{self.url}/repos/{NAME}{path}"

    def _now(self) -> str:
        return datetime.fromtimestamp(self.clock.now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _sha(self, revision: str) -> str | None:
        done = subprocess.run(
            ["git", "rev-parse", "--verify", "--quiet", f"refs/heads/{revision}"],
            cwd=self.origin, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout.strip() or None

    def _is_lagging(self, branch: str) -> bool:
        left = self._unseen.get(branch, 0)
        self._unseen[branch] = max(0, left - 1)
        return left > 0

    def _has(self, number: int) -> bool:
        return number in self.texts.issues or number in self.texts.pulls

    def _text(self, number: int) -> dict[str, Any]:
        return self.texts.issues.get(number) or self.texts.pulls[number]

    def _issue(self, number: int) -> dict[str, Any]:
        html = f"https://github.com/{NAME}/issues/{number}"
        return {**self._text(number), "url": self._url(f"/issues/{number}"), "html_url": html}

    def _open_pull(self, login: str, branch: str, base: str, title: str, body: str) -> dict[str, Any]:
        number = self.next_number()
        self.texts.pulls[number] = {
            "number": number, "state": "open", "merged_at": None, "user": _user(login), "title": title, "body": body,
            "branch": branch, "base": base, "label": f"example:{branch}",
        }  # fmt: skip
        return self.texts.pulls[number]

    def _pull(self, number: int) -> dict[str, Any]:
        one = self.texts.pulls[number]
        repository = {"full_name": NAME, "url": self._url("")}
        head = {"ref": one["branch"], "label": one["label"], "sha": self._sha(one["branch"]), "repo": repository}
        base = {
            "ref": one["base"],
            "label": f"example:{one['base']}",
            "sha": self._sha(one["base"]),
            "repo": repository,
        }
        html = f"https://github.com/{NAME}/pull/{number}"
        url, issue = self._url(f"/pulls/{number}"), self._url(f"/issues/{number}")
        return {**one, "url": url, "issue_url": issue, "html_url": html, "head": head, "base": base}

    def _comment(self, number: int, body: str, login: str) -> dict[str, Any]:
        one = self.next_number()
        url = self._url(f"/issues/comments/{one}")
        html = f"https://github.com/{NAME}/pull/{number}#issuecomment-{one}"
        facts = {"id": one, "number": number, "body": body, "user": _user(login), "url": url, "html_url": html}
        self.texts.comments[one] = facts
        return facts

    def _ref(self, branch: str, status: int = 200) -> Response:
        sha = self._sha(branch)
        if sha is None:
            return self.error(404, "Not Found")
        target = {"type": "commit", "sha": sha, "url": self._url(f"/git/commits/{sha}")}
        found = {"ref": f"refs/heads/{branch}", "url": self._url(f"/git/refs/heads/{branch}"), "object": target}
        return Response(status, found)

    def _git_commit(self, sha: str) -> dict[str, Any]:
        tree, parents, message = self.git("show", "--no-patch", "--format=%T%n%P%n%B", sha).split("\n", 2)
        return {
            "sha": sha, "url": self._url(f"/git/commits/{sha}"), "message": message,
            "tree": {"sha": tree, "url": self._url(f"/git/trees/{tree}")},
            "parents": [{"sha": parent} for parent in parents.split()],
        }  # fmt: skip

    def _written_tree(self, files: dict[str, str]) -> str:
        folders: dict[str, dict[str, str]] = {}
        rows = []
        for path, facts in files.items():
            folder, _, rest = path.partition("/")
            if rest:
                folders.setdefault(folder, {})[rest] = facts
            else:
                rows.append(f"{facts}\t{path}\n")
        rows += [f"040000 tree {self._written_tree(below)}\t{folder}\n" for folder, below in folders.items()]
        return self.git("mktree", stdin="".join(rows))

    def _invalid(self, code: str, message: str) -> Response:
        error = {"resource": "PullRequest", "field": "head", "code": code, "message": message}
        return Response(422, {"message": "Validation Failed", "errors": [error]})


_EDITABLE = ("title", "body", "state", "state_reason")
_BOT_PERSON = {"NAME": BOT, "EMAIL": f"41898282+{BOT}@users.noreply.github.com"}


def _user(login: str) -> dict[str, Any]:
    return {"login": login, "type": "Bot" if login.endswith("[bot]") else "User"}


def secondary_limit(seconds: int) -> Response:
    """As GitHub slows down who writes too fast."""
    body = {"message": "You have exceeded a secondary rate limit."}
    return Response(403, body, {"Retry-After": str(seconds)})


def primary_limit(reset: int) -> Response:
    """As GitHub refuses who has used up the hour."""
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(reset)}
    return Response(403, {"message": "API rate limit exceeded for installation."}, headers)
