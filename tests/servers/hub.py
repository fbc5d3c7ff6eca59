"""The repositories of the Hugging Face Hub: create, commit (regular and LFS files), download, list, tag.

As huggingface_hub 2.4 calls them (hf_api.py, _commit_api.py, lfs.py, file_download.py). Small files are "regular",
weights go through LFS: its successor Xet is a protocol of its own, and clients that upload weights here set
HF_HUB_DISABLE_XET.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs

from tests.servers.base import HttpServer, Request, Response, route

Kind = Literal["models", "datasets"]
API = r"/api/(?P<kind>models|datasets)/(?P<repository>[^/]+(/[^/]+)?)"
FILE = r"/(?P<prefix>datasets/)?(?P<repository>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)"
LARGE_SUFFIXES = (".safetensors", ".bin", ".pt")


@dataclass
class Repo:
    """All of its commits, by their hash; `main` is the newest."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    large: set[str] = field(default_factory=set)
    """Paths that came through LFS."""
    tags: dict[str, str] = field(default_factory=dict)
    gated: bool = False

    def commit(self, files: dict[str, bytes]) -> str:
        whole = {**self.files(), **files}
        hashes = {path: hashlib.sha1(data).hexdigest() for path, data in whole.items()}
        sha = hashlib.sha1(json.dumps([len(self.commits), hashes]).encode()).hexdigest()
        self.commits[sha] = whole
        return sha

    @property
    def sha(self) -> str:
        return list(self.commits)[-1]

    def files(self, revision: str = "main") -> dict[str, bytes]:
        found = self.sha if revision == "main" and self.commits else self.tags.get(revision, revision)
        return self.commits.get(found, {})


class HubServer(HttpServer):
    """Repositories of everybody; one account with one token."""

    def __init__(self, account: str = "acme", token: str = "hf_the-secret-token") -> None:
        super().__init__()
        self.account, self.token = account, token
        self.repos: dict[tuple[Kind, str], Repo] = {}
        self.uploads = 0
        """Files that clients have committed."""
        self.commits_to_refuse = 0
        """The next commits are answered with 503."""
        self._blobs: dict[str, bytes] = {}

    def add_repo(self, kind: Kind, name: str, files: dict[str, bytes], *, private: bool = True) -> Repo:
        """What somebody put there before: a base model, say."""
        repo = self.repos.setdefault((kind, name), Repo(private))
        repo.commit({".gitattributes": b"*.safetensors filter=lfs\n", **files})
        repo.large |= {path for path in files if path.endswith(LARGE_SUFFIXES)}
        return repo

    def add_folder(self, name: str, folder: Path) -> Repo:
        """A public model repository with a folder's files."""
        files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        return self.add_repo("models", name, files, private=False)

    def error(self, status: int, message: str) -> Response:
        return Response(status, {"error": message}, {"X-Error-Message": message})

    def coded(self, status: int, code: str, message: str) -> Response:
        """An error that the client tells by its code."""
        return Response(status, {"error": message}, {"X-Error-Code": code, "X-Error-Message": message})

    def authorize(self, request: Request) -> Response | None:
        if request.path.startswith("/lfs/"):
            return None  # a signed address
        if request.headers["Authorization"] == f"Bearer {self.token}":
            return None
        return self.error(401, "Invalid username or password.")

    @route("GET", "/api/whoami-v2")
    def whoami(self, request: Request) -> Response:
        return Response(200, {"type": "user", "id": "5e9ecfc04957053f60648a3e", "name": self.account, "orgs": []})

    @route("POST", "/api/repos/create")
    def create(self, request: Request) -> Response:
        body = request.json
        kind: Kind = "datasets" if body.get("type") == "dataset" else "models"
        name = f"{body.get('organization') or self.account}/{body['name']}"
        url = f"{self.url}/{'datasets/' if kind == 'datasets' else ''}{name}"
        if (kind, name) in self.repos:
            return Response(409, {"error": f"You already created this {kind[:-1]} repo", "url": url})
        self.add_repo(kind, name, {}, private=body.get("visibility") == "private")
        return Response(200, {"url": url, "name": name})

    @route("GET", rf"{API}(/revision/(?P<revision>[^/]+))?")
    def info(self, request: Request) -> Response:
        repo = self._repo(request)
        if repo is None:
            return self._no_repo()
        siblings = [{"rfilename": path} for path in repo.files()]
        name = request.parts["repository"]
        return Response(200, {"id": name, "sha": repo.sha, "private": repo.private, "siblings": siblings, "tags": []})

    @route("GET", rf"{API}/auth-check")
    def auth_check(self, request: Request) -> Response:
        repo = self._repo(request)
        if repo is None:
            return self._no_repo()
        if repo.gated:
            return self.coded(403, "GatedRepo", "Access to this model is restricted. You are not in its list.")
        return Response(200, {})

    @route("GET", rf"{API}/tree/(?P<revision>[^/]+)(/.*)?")
    def tree(self, request: Request) -> Response:
        repo = self._repo(request)
        if repo is None:
            return self._no_repo()
        files = repo.files(request.parts["revision"])
        return Response(200, [self._entry(repo, path, data) for path, data in files.items()])

    @route("POST", rf"{API}/paths-info/(?P<revision>[^/]+)")
    def paths_info(self, request: Request) -> Response:
        repo = self._repo(request)
        if repo is None:
            return self._no_repo()
        wanted = parse_qs(request.body.decode())["paths"]
        files = repo.files(request.parts["revision"])
        return Response(200, [self._entry(repo, path, files[path]) for path in wanted if path in files])

    @route("GET", rf"{API}/refs")
    def refs(self, request: Request) -> Response:
        repo = self._repo(request)
        if repo is None:
            return self._no_repo()
        tags = [{"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": sha} for tag, sha in repo.tags.items()]
        branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.sha}
        return Response(200, {"branches": [branch], "converts": [], "tags": tags})

    @route("POST", rf"{API}/tag/(?P<revision>[^/]+)")
    def tag(self, request: Request) -> Response:
        repo = self._repo(request)
        if repo is None:
            return self._no_repo()
        if request.json["tag"] in repo.tags:
            return self.error(409, "Tag reference exists already")
        repo.tags[request.json["tag"]] = repo.sha
        return Response(200, {})

    # --- upload

    @route("POST", rf"{API}/preupload/(?P<revision>[^/]+)")
    def preupload(self, request: Request) -> Response:
        if self._repo(request) is None:
            return self._no_repo()
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE_SUFFIXES) else "regular",
                "shouldIgnore": False,
            }
            for file in request.json["files"]
        ]
        return Response(200, {"files": files})

    @route("POST", r"/(?P<prefix>datasets/)?(?P<repository>[^/]+/[^/]+)\.git/info/lfs/objects/batch")
    def lfs_batch(self, request: Request) -> Response:
        objects = []
        for item in request.json["objects"]:
            upload = {"upload": {"href": f"{self.url}/lfs/{item['oid']}"}}
            objects.append(item if item["oid"] in self._blobs else {**item, "actions": upload})
        return Response(200, {"transfer": "basic", "objects": objects})

    @route("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})")
    def lfs_put(self, request: Request) -> Response:
        if hashlib.sha256(request.body).hexdigest() != request.parts["oid"]:
            return self.error(400, "the content is not what its hash says")
        self._blobs[request.parts["oid"]] = request.body
        return Response(200)

    @route("POST", rf"{API}/commit/(?P<revision>[^/]+)")
    def commit(self, request: Request) -> Response:
        repo = self._repo(request)
        if repo is None:
            return self._no_repo()
        if self.commits_to_refuse:
            self.commits_to_refuse -= 1
            return self.error(503, "Service Unavailable")
        files: dict[str, bytes] = {}
        for line in request.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                if value["oid"] not in self._blobs:
                    return self.error(400, f"LFS object {value['oid']} was never uploaded")
                files[value["path"]] = self._blobs[value["oid"]]
                repo.large.add(value["path"])
        self.uploads += len(files)
        sha = repo.commit(files)
        prefix = "datasets/" if request.parts["kind"] == "datasets" else ""
        page = f"{self.url}/{prefix}{request.parts['repository']}/commit/{sha}"
        return Response(200, {"success": True, "commitOid": sha, "commitUrl": page})

    # --- download

    @route("GET", FILE)
    @route("HEAD", FILE)
    def resolve(self, request: Request) -> Response:
        parts = request.parts
        repo = self.repos.get(("datasets" if parts["prefix"] else "models", parts["repository"]))
        if repo is None:
            return self._no_repo()
        data = repo.files(parts["revision"]).get(parts["path"])
        if data is None:
            return self.coded(404, "EntryNotFound", "Entry not found")
        etag = f'"{self._oid(repo, parts["path"], data)}"'
        headers = {"ETag": etag, "X-Repo-Commit": repo.sha, "Content-Type": "application/octet-stream"}
        if parts["path"] in repo.large:
            headers |= {"X-Linked-Etag": etag, "X-Linked-Size": str(len(data))}
        return Response(200, data, headers)

    def _repo(self, request: Request) -> Repo | None:
        return self.repos.get((request.parts["kind"], request.parts["repository"]))  # type: ignore[call-overload]

    def _no_repo(self) -> Response:
        return self.coded(404, "RepoNotFound", "Repository not found")

    @staticmethod
    def _oid(repo: Repo, path: str, data: bytes) -> str:
        if path in repo.large:
            return hashlib.sha256(data).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # git's name of it

    def _entry(self, repo: Repo, path: str, data: bytes) -> dict[str, Any]:
        entry = {"type": "file", "path": path, "size": len(data), "oid": self._oid(repo, path, data)}
        if path in repo.large:
            entry["lfs"] = {"oid": entry["oid"], "size": len(data), "pointerSize": 134}
        return entry
