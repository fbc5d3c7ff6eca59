"""Sources elsewhere, read by their real clients from servers on this machine."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gitune.dataset.urls import holds_credential, shown_url
from gitune.testing import Fault
from tests.conftest import REPOSITORY, Repository, Result, agent_yaml, example, jsonl
from tests.servers.base import HttpServer
from tests.servers.files import FileServer, GoogleServer
from tests.servers.hub import HubServer

pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")

CONTENT = jsonl([example(f"message {i} about {i % 3}", f"intent_{i % 3}") for i in range(24)]).encode()
DIGEST = hashlib.sha256(CONTENT).hexdigest()
MORE = CONTENT + jsonl([example("one more message", "intent_0")]).encode()
SECRET = "hunter2hunter2"
Build = Callable[..., Result]


@pytest.fixture
def build(repository: Repository, gitune: Build, monkeypatch: pytest.MonkeyPatch) -> Build:
    """`gitune dataset build qa` on one source; in a process of its own where its environment or modules matter."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "HF_", "FSSPEC_", "GOOGLE_"))]:
        monkeypatch.delenv(name)

    def call(path: str, before: str = "", environment: dict[str, str] | None = None, **source: Any) -> Result:
        repository.add_agent("qa", agent_yaml(dataset={"sources": [{"path": path, **source}]}))
        arguments = ("dataset", "build", "qa")
        if not before and not environment:
            return gitune(*arguments)
        here = os.pathsep.join([str(REPOSITORY / "infra"), *sys.path])
        done = subprocess.run(
            [sys.executable, "-c", f"{before}\nfrom gitune.commands import main; main()", *arguments],
            env={**os.environ, "PYTHONPATH": here, **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer() as found:
        found.files["/data/train.jsonl"] = CONTENT
        yield found


def recorded(repository: Repository, result: Result) -> list[tuple[str, str, int]]:
    """What the built dataset says of its sources."""
    assert result.code == 0, result.err
    manifest = json.loads((repository.root / result.out.strip() / "dataset.json").read_text())
    return [(source["file"], source["sha256"], source["examples"]) for source in manifest["sources"]]


def everything_below(folder: Path) -> str:
    return "\n".join(path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())


# --- http and https ---------------------------------------------------------------------------------------------------


def test_http_is_recorded_by_content_and_asked_again(server: FileServer, repository: Repository, build: Build) -> None:
    url = f"{server.url}/data/train.jsonl"
    assert recorded(repository, build(url)) == [(url, DIGEST, 24)]
    downloads = server.downloads
    assert recorded(repository, build(url)) == [(url, DIGEST, 24)]
    assert server.downloads == downloads  # the ETag is the same
    server.files["/data/train.jsonl"] = MORE
    assert recorded(repository, build(url)) == [(url, hashlib.sha256(MORE).hexdigest(), 25)]
    result = build(url, sha256="0" * 64)
    assert (result.code, f"but sha256 says {'0' * 64}" in result.err) == (1, True), result.err
    requests = len(server.requests)
    assert recorded(repository, build(url, sha256=DIGEST)) == [(url, DIGEST, 24)]  # pinned and here: nothing is asked
    assert len(server.requests) == requests


def test_a_server_that_says_little(repository: Repository, build: Build) -> None:
    """No ETag, no ranges, as Python's own http.server: a change is noticed, because the file is read each time."""
    with FileServer(ranges=False, etags=False) as server:
        url = f"{server.url}/train.jsonl"
        server.files["/train.jsonl"] = CONTENT
        assert recorded(repository, build(url)) == [(url, DIGEST, 24)]
        server.files["/train.jsonl"] = MORE
        assert recorded(repository, build(url))[0][2] == 25


def test_a_redirect_is_followed(server: FileServer, repository: Repository, build: Build) -> None:
    server.redirects["/latest.jsonl"] = "/data/train.jsonl"
    url = f"{server.url}/latest.jsonl"
    assert recorded(repository, build(url)) == [(url, DIGEST, 24)]


BROKEN: dict[str, tuple[Callable[[FileServer], object], str]] = {
    "missing": (lambda s: s.files.clear(), "cannot be read: HTTP 404 Not Found\n  hint: check the address"),
    "gone": (lambda s: s.statuses.update({"/data/train.jsonl": 410}), "HTTP 410 Gone\n  hint: check the address"),
    "forbidden": (
        lambda s: s.statuses.update({"/data/train.jsonl": 403}),
        "HTTP 403 Forbidden\n  hint: check your cred",
    ),
    "broken": (
        lambda s: s.statuses.update({"/data/train.jsonl": 500}),
        "HTTP 500 Internal Server Error\n  hint: the ot",
    ),
    "cut": (lambda s: s.plant(Fault("cut"), on_submit=True), "cannot be read: Not enough data"),
    "a loop": (
        lambda s: s.redirects.update({"/data/train.jsonl": "/data/train.jsonl"}),
        "cannot be read: TooManyRedirects",
    ),
    "a log-in page": (lambda s: s.files.update({"/data/train.jsonl": b"<html>\n"}), "train.jsonl:1: not valid JSON"),
    "nothing": (lambda s: s.files.update({"/data/train.jsonl": b""}), "train.jsonl: no example in this file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_answer_that_is_no_file(name: str, server: FileServer, repository: Repository, build: Build) -> None:
    spoil, expected = BROKEN[name]
    spoil(server)
    url = f"{server.url}/data/train.jsonl"
    result = build(url)
    assert (result.code, expected in result.err, url in result.err) == (1, True, True), result.err
    assert not (repository.root / ".gitune" / "datasets").exists()
    assert not list((repository.root / ".gitune").rglob(".tmp-*"))


def test_nobody_listens(build: Build) -> None:
    with FileServer() as server:
        url = server.url
    result = build(f"{url}/train.jsonl")
    assert (result.code, "cannot be read: Cannot connect to host" in result.err) == (1, True), result.err


def test_https_with_a_certificate_of_ones_own(tmp_path: Path, repository: Repository, build: Build) -> None:
    certificate = tmp_path / "server.pem"
    certificate.write_bytes(self_signed())
    with FileServer(tls=certificate) as server:
        server.files["/train.jsonl"] = CONTENT
        url = f"{server.url}/train.jsonl"
        result = build(url)
        assert (result.code, "certificate verify failed" in result.err.lower()) == (1, True), result.err
        found = build(url, environment={"SSL_CERT_FILE": str(certificate)})
        assert recorded(repository, found) == [(url, DIGEST, 24)]


def self_signed() -> bytes:
    """A key and a certificate for 127.0.0.1, as PEM."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    certificate = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, *plain) + certificate.public_bytes(serialization.Encoding.PEM)


# --- credentials ------------------------------------------------------------------------------------------------------


def test_a_signed_address_is_never_shown(server: FileServer, repository: Repository, build: Build) -> None:
    url = f"{server.url}/data/train.jsonl?versionId=7&X-Amz-Signature={SECRET}"
    shown = f"{server.url}/data/train.jsonl?versionId=***&X-Amz-Signature=***"
    result = build(url)
    assert recorded(repository, result) == [(shown, DIGEST, 24)]
    server.files["/data/train.jsonl"] = CONTENT + b"nonsense\n"
    wrong = build(url)
    assert f"{shown}:25: not valid JSON" in wrong.err
    server.files.clear()
    missing = build(url)
    assert f"agents/qa/agent.yaml:4: {shown}: cannot be read: HTTP 404" in missing.err
    assert SECRET not in "".join(part for one in (result, wrong, missing) for part in (one.out, one.err))
    assert SECRET not in everything_below(repository.root / ".gitune")


def test_a_password_is_not_for_agent_yaml(server: FileServer, repository: Repository, build: Build) -> None:
    result = build(server.url.replace("://", f"://me:{SECRET}@") + "/data/train.jsonl")
    assert (result.code, "agent.yaml:4: a source's URL must not hold a password" in result.err) == (1, True), result.err
    assert SECRET not in result.out + result.err
    assert server.requests == []
    assert not (repository.root / ".gitune").exists()


def test_a_password_comes_from_the_environment(server: FileServer, repository: Repository, build: Build) -> None:
    server.authorization = f"Bearer {SECRET}"
    url = f"{server.url}/data/train.jsonl"
    refused = build(url)
    assert (refused.code, "HTTP 401" in refused.err, "check your credentials" in refused.err) == (1, True, True)
    options = json.dumps({"client_kwargs": {"headers": {"Authorization": server.authorization}}})
    found = build(url, environment={"FSSPEC_HTTP": options})
    assert recorded(repository, found) == [(url, DIGEST, 24)]
    assert SECRET not in everything_below(repository.root / ".gitune")


@pytest.mark.parametrize(
    ("url", "shown", "password"),
    [
        ("s3://bucket/a/b.jsonl", "s3://bucket/a/b.jsonl", False),
        ("s3://key:secret@bucket/b.jsonl", "s3://***@bucket/b.jsonl", True),
        ("s3://key:sec/ret@bucket/b.jsonl", "s3://***@bucket/b.jsonl", True),
        ("http://127.0.0.1:8080/me@example.org", "http://127.0.0.1:8080/me@example.org", False),
        ("github://owner:repository@main/b.jsonl", "github://owner:repository@main/b.jsonl", False),
        ("https://token@host/b", "https://***@host/b", True),
        ("https://host/b?sig=abc%3D&x=1#part", "https://host/b?sig=***&x=***#part", False),
        ("https://host/b?download", "https://host/b?download", False),
        ("abfs://container@account/b", "abfs://container@account/b", False),
        ("abfs://container:key@account/b", "abfs://***@account/b", True),
        ("hf://datasets/org/name@v1/b.jsonl", "hf://datasets/org/name@v1/b.jsonl", False),
        ("cannot read 'https://a:b@host/?k=v', sorry", "cannot read 'https://***@host/?k=***', sorry", True),
        ("no address: a=b?c=d me@example.org", "no address: a=b?c=d me@example.org", False),
    ],
)
def test_what_is_shown_of_an_address(url: str, shown: str, password: bool) -> None:
    assert (shown_url(url), holds_credential(url)) == (shown, password)


# --- the clients of clouds --------------------------------------------------------------------------------------------


@pytest.fixture
def s3() -> Iterator[dict[str, str]]:
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    yield environment
    server.stop()


@pytest.mark.slow
def test_s3(s3: dict[str, str], repository: Repository, build: Build) -> None:
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=s3["AWS_ENDPOINT_URL"],
        aws_access_key_id="testing",
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="data")
    client.put_object(Bucket="data", Key="a/train.jsonl", Body=CONTENT)
    url = "s3://data/a/train.jsonl"
    assert recorded(repository, build(url, environment=s3)) == [(url, DIGEST, 24)]
    client.put_object(Bucket="data", Key="a/train.jsonl", Body=MORE)
    assert recorded(repository, build(url, environment=s3))[0][2] == 25
    assert recorded(repository, build(url, environment=s3, sha256=DIGEST))[0][1:] == (DIGEST, 24)
    wrong = build("s3://data/nothing.jsonl", environment=s3)
    expected = "agents/qa/agent.yaml:4: s3://data/nothing.jsonl: cannot be read: "
    assert (wrong.code, expected in wrong.err, SECRET in wrong.err) == (1, True, False), wrong.err
    assert SECRET not in everything_below(repository.root / ".gitune")


def downloads(server: HttpServer) -> int:
    return sum("/resolve/" in request.path for request in server.requests)


@pytest.mark.slow
def test_hugging_face(repository: Repository, build: Build) -> None:
    pytest.importorskip("huggingface_hub")
    with HubServer(token=f"hf_{SECRET}") as server:
        repo = server.add_repo("datasets", "org/name", {"data/train.jsonl": CONTENT})
        repo.tags["v1"] = repo.sha
        token = {"HF_ENDPOINT": server.url, "HF_TOKEN": server.token, "HF_HOME": str(repository.root / "hf")}
        url = "hf://datasets/org/name/data/train.jsonl"
        assert recorded(repository, build(url, environment=token)) == [(url, DIGEST, 24)]
        asked = downloads(server)
        assert recorded(repository, build(url, environment=token)) == [(url, DIGEST, 24)]
        assert downloads(server) == asked
        repo.commit({"data/train.jsonl": MORE})
        assert recorded(repository, build(url, environment=token))[0][2] == 25
        tagged = "hf://datasets/org/name@v1/data/train.jsonl"
        assert recorded(repository, build(tagged, environment=token))[0][1:] == (DIGEST, 24)
        for wrong in ("hf://datasets/org/name/data/nothing.jsonl", "hf://datasets/org/nobody/train.jsonl"):
            result = build(wrong, environment=token)
            assert (result.code, f"agents/qa/agent.yaml:4: {wrong}: cannot be read: " in result.err) == (1, True)
            assert SECRET not in result.err
        refused = build(url, environment={**token, "HF_TOKEN": "hf_another"})
        assert (refused.code, "hf_another" in refused.err) == (1, False), refused.err
    assert SECRET not in everything_below(repository.root / ".gitune")


@pytest.mark.slow
def test_google_cloud_storage(repository: Repository, build: Build) -> None:
    """The JSON API alone: gcsfs's look-up of the bucket's kind goes by gRPC and falls back to it."""
    pytest.importorskip("gcsfs")
    with GoogleServer() as server:
        server.files["a/train.jsonl"] = CONTENT
        environment = {
            "STORAGE_EMULATOR_HOST": server.url,
            "FSSPEC_GS": json.dumps({"token": "anon"}),
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }
        url = "gs://data/a/train.jsonl"
        assert recorded(repository, build(url, environment=environment)) == [(url, DIGEST, 24)]
        server.files["a/train.jsonl"] = MORE
        assert recorded(repository, build(url, environment=environment))[0][2] == 25
        assert recorded(repository, build(url, environment=environment, sha256=DIGEST))[0][1:] == (DIGEST, 24)
        wrong = build("gs://data/nothing.jsonl", environment=environment)
        assert (wrong.code, "agents/qa/agent.yaml:4: gs://data/nothing.jsonl: cannot be read: " in wrong.err) == (
            1,
            True,
        ), wrong.err


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("s3://data/train.jsonl", "s3fs", "s3"),
        ("gs://data/train.jsonl", "gcsfs", "gs"),
        ("hf://datasets/a/b/train.jsonl", "huggingface_hub", "data"),
        ("https://127.0.0.1/train.jsonl", "aiohttp", "data"),
        ("https://127.0.0.1/train.jsonl", "fsspec", "data"),
    ],
)
def test_a_client_that_is_not_installed(url: str, package: str, extra: str, build: Build) -> None:
    result = build(url, before=f"import sys; sys.modules[{package!r}] = None")
    expected = f"agents/qa/agent.yaml:4: {url}: needs the package {package}\n  hint: pip install 'gitune[{extra}]'\n"
    assert (result.code, result.err) == (1, f"{expected}error: 1 problem(s); nothing was started\n")


@pytest.mark.parametrize("url", ["file:///etc/hostname", "local:///etc/hostname"])
def test_a_file_of_this_machine_is_no_remote_source(url: str, build: Build) -> None:
    result = build(url)
    assert (result.code, f"agents/qa/agent.yaml:4: '{url}' is a file of this machine" in result.err) == (1, True)
