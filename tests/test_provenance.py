"""Passports: written with every lock, checked to the last byte, exported for those who read other formats."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from huggingface_hub import ModelCard

from gitune.git import find_commit
from gitune.lock import Lock, read_lock, write_lock
from gitune.passport import (
    Passport,
    body_sha256,
    lock_record,
    parse_passport,
    passport_file,
    passport_text,
    write_passport,
)
from tests.conftest import REPOSITORY, Repository, Result
from tests.journey import add_hosted_agents, call
from tests.repositories import Git
from tests.servers.mistral import KEY, MistralServer
from tests.test_lock import LOCK

pytestmark = pytest.mark.slow
Gitune = Callable[..., Result]
AGENT = "agent-0"


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose one agent was trained, judged and locked, and whose lock is committed."""
    root = tmp_path_factory.mktemp("promoted") / "repository"
    git = Git(root)
    (root / "infra").mkdir()
    for name in ("Pulumi.yaml", "infra/__main__.py"):
        shutil.copy(REPOSITORY / name, root / name)
    repository = Repository(root)
    repository.write(".gitignore", ".gitune/\n__pycache__/\n")
    add_hosted_agents(repository, "mistral", 1)
    git.commit("an agent")
    with MistralServer() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MISTRAL_API_KEY", KEY)
        patch.setenv("MISTRAL_BASE_URL", server.url)
        server.seconds_per_request = 120.0  # a job takes 600
        result = call(repository, "up", "-s", "training", "--poll", "0.1")
    assert result.code == 0, result.err
    git.commit("its lock")
    return root


@pytest.fixture
def clone(promoted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, to damage."""
    root = tmp_path / "clone"
    shutil.copytree(promoted, root)
    monkeypatch.chdir(root)
    return root


def _lock_file(root: Path) -> Path:
    return root / f"agents/{AGENT}/model.lock.yaml"


def _lock(root: Path) -> Lock:
    lock = read_lock(_lock_file(root))
    assert lock is not None
    return lock


def _passport_file(root: Path) -> Path:
    return passport_file(_lock_file(root), _lock(root).passport or "")


def _passport(root: Path) -> Passport:
    return parse_passport(_passport_file(root).read_bytes(), "passport")


def _verify(gitune: Gitune, *arguments: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """The exit code, and state and detail of each link."""
    result = gitune("verify", "-s", "training", "--json", *arguments)
    return result.code, {row["link"]: (row["state"], row["detail"]) for row in json.loads(result.out)}


def _broken(links: dict[str, tuple[str, str]]) -> set[str]:
    return {name for name, (state, _) in links.items() if state == "broken"}


def test_the_lock_names_a_passport_that_says_where_the_model_came_from(promoted: Path) -> None:
    lock, passport = _lock(promoted), _passport(promoted)
    assert lock.passport == hashlib.sha256(_passport_file(promoted).read_bytes()).hexdigest()
    assert passport.lock == lock_record(lock)
    assert passport.dataset is not None
    assert {"train.jsonl", "card.md", "dataset.json"} <= set(passport.dataset.files)
    (source,) = passport.dataset.sources
    data = promoted / f"agents/{AGENT}/data/train.jsonl"
    assert (source.file, source.licence) == (f"agents/{AGENT}/data/train.jsonl", "Apache-2.0")
    assert source.sha256 == hashlib.sha256(data.read_bytes()).hexdigest()
    assert (passport.code.commit, passport.code.dirty) == (find_commit(promoted, "HEAD~1"), False)
    assert set(passport.evaluations) == {"challenger", "latency", "base"}
    for evaluation in passport.evaluations.values():
        assert evaluation.sha256 == hashlib.sha256((promoted / ".gitune" / evaluation.log).read_bytes()).hexdigest()
    assert [baseline.role for baseline in passport.baselines] == ["base model"]


def test_a_passport_has_one_spelling_and_no_path_or_key_of_the_machine(promoted: Path) -> None:
    text = _passport_file(promoted).read_text()
    assert passport_text(_passport(promoted)) == text
    assert json.loads(text)["schema"] == "gitune.passport/1"
    assert str(promoted) not in text
    assert KEY not in text


def test_all_is_right(clone: Path, gitune: Gitune) -> None:
    code, links = _verify(gitune)
    assert code == 0
    assert set(links) == {
        *("lock", "passport", "git", "code", "dataset", "data card"),
        *("log challenger", "log latency", "log base", "numbers"),
    }
    assert {state for state, _ in links.values()} == {"ok"}
    assert links["numbers"][1] == "cases, accuracy, base_accuracy, latency_seconds"
    shown = gitune("verify", AGENT, "-s", "training")
    assert "10 ok, 0 broken, 0 unchecked" in shown.out


def _files(root: Path) -> dict[str, Path]:
    """A file of each kind, and the link that it is."""
    lock, passport = _lock(root), _passport(root)
    dataset = root / ".gitune/datasets" / lock.dataset["fingerprint"]
    logs = {f"log {name}": root / ".gitune" / one.log for name, one in passport.evaluations.items()}
    return {
        "lock": _lock_file(root),
        "passport": _passport_file(root),
        "dataset": dataset / "train.jsonl",
        "data card": dataset / "card.md",
        **logs,
    }


LINKS = ("lock", "passport", "dataset", "data card", "log challenger", "log latency", "log base")


@pytest.mark.parametrize("link", LINKS)
def test_one_flipped_byte_is_named(link: str, clone: Path, gitune: Gitune) -> None:
    file = _files(clone)[link]
    whole = file.read_bytes()
    for place in sorted({0, 1, len(whole) // 3, len(whole) // 2, 2 * len(whole) // 3, len(whole) - 2, len(whole) - 1}):
        for mask in (0x01, 0x20, 0x80):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ mask]) + whole[place + 1 :])
            code, links = _verify(gitune)
            assert (code, _broken(links)) == (1, {link}), (place, mask, links)
    file.write_bytes(whole)
    assert _verify(gitune)[0] == 0


def test_a_byte_anywhere_in_the_lock(clone: Path, gitune: Gitune) -> None:
    """Many more of them, since a lock is read by YAML, where many bytes mean nothing."""
    file = _lock_file(clone)
    whole = file.read_bytes()
    for folder in (".gitune", ".git"):
        shutil.rmtree(clone / folder)  # what is not here is unchecked, and costs no time
    for place in range(0, len(whole), 17):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        code, links = _verify(gitune)
        assert (code, _broken(links)) == (1, {"lock"}), (place, links)


@pytest.mark.parametrize("name", ["validation.jsonl", "dataset.json"])
def test_every_file_of_a_dataset_counts(name: str, clone: Path, gitune: Gitune) -> None:
    file = _files(clone)["dataset"].with_name(name)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b" ")
    code, links = _verify(gitune)
    assert (code, _broken(links)) == (1, {"dataset"})
    assert name in links["dataset"][1]


def test_a_changed_number_is_told_with_both_values(clone: Path, gitune: Gitune) -> None:
    lock = _lock(clone)
    write_lock(_lock_file(clone), replace(lock, benchmark={**lock.benchmark, "accuracy": 0.99}))
    code, links = _verify(gitune)
    assert (code, _broken(links)) == (1, {"lock"})
    was = lock.benchmark["accuracy"]
    assert links["lock"][1] == f"the passport says otherwise: benchmark.accuracy: {was} there, 0.99 here"
    assert links["git"][0] == "unchecked"


def test_numbers_that_were_never_measured_are_found_where_lock_and_passport_agree_on_them(
    clone: Path, gitune: Gitune
) -> None:
    lock, passport = _lock(clone), _passport(clone)
    forged = replace(lock, benchmark={**lock.benchmark, "accuracy": 0.99})
    record = passport.model_copy(update={"lock": lock_record(forged), "lock_sha256": body_sha256(forged)})
    write_lock(_lock_file(clone), replace(forged, passport=write_passport(_lock_file(clone), record)))
    code, links = _verify(gitune)
    assert (code, _broken(links)) == (1, {"numbers"})
    assert "in the lock" in links["numbers"][1]


def test_what_is_on_another_machine_is_not_called_broken(clone: Path, gitune: Gitune) -> None:
    shutil.rmtree(clone / ".gitune")
    code, links = _verify(gitune)
    assert code == 0
    unchecked = {name for name, (state, _) in links.items() if state == "unchecked"}
    assert unchecked == {"dataset", "log challenger", "log latency", "log base", "numbers"}


def test_a_published_dataset_is_fetched_to_be_checked(clone: Path, gitune: Gitune) -> None:
    shutil.rmtree(clone / ".gitune/datasets")
    assert _verify(gitune)[1]["dataset"][0] == "ok"
    shutil.rmtree(clone / ".gitune/datasets")
    published = clone / ".gitune/store" / _lock(clone).dataset["fingerprint"] / "train.jsonl"
    published.write_bytes(published.read_bytes().replace(b"message", b"massage", 1))
    code, links = _verify(gitune)
    assert (code, _broken(links)) == (1, {"dataset"})


def test_a_lost_passport_is_broken_and_one_that_the_lock_does_not_name_is_found(clone: Path, gitune: Gitune) -> None:
    lock, file = _lock(clone), _passport_file(clone)
    write_lock(_lock_file(clone), replace(lock, passport="0" * 64))
    assert _broken(_verify(gitune)[1]) == {"lock"}
    write_lock(_lock_file(clone), lock)
    file.unlink()
    code, links = _verify(gitune)
    assert (code, _broken(links)) == (1, {"passport"})


def test_a_lock_that_its_tag_contradicts(clone: Path, gitune: Gitune) -> None:
    Git(clone)("tag", "-a", "-m", "first", f"{AGENT}@v1.0.0", "HEAD")
    assert _verify(gitune)[1]["tag"] == ("ok", f"{AGENT}@v1.0.0")
    write_lock(_lock_file(clone), replace(_lock(clone), model_id="ft:another"))
    links = _verify(gitune)[1]
    assert _broken(links) == {"lock", "tag"}
    assert "model_id is" in links["tag"][1]


def test_a_lock_from_before_passports(repository: Repository, gitune: Gitune) -> None:
    repository.write("Pulumi.training.yaml", yaml.safe_dump({"config": {"gitune:locks": "agents"}}))
    repository.add_agent("support")
    old = {name: value for name, value in asdict(LOCK).items() if name != "passport"}
    file = repository.write("agents/support/model.lock.yaml", yaml.safe_dump(old, sort_keys=False))
    assert read_lock(file) == LOCK
    code, links = _verify(gitune, "support")
    assert (code, links["passport"][0]) == (0, "unchecked")
    told = gitune("passport", "support", "-s", "training")
    assert (told.code, "written before there were any" in told.err) == (1, True)
    assert gitune("verify", "suport", "-s", "training").err.endswith("hint: did you mean 'support'?\n")


def test_a_model_card_that_the_hub_reads(clone: Path, gitune: Gitune) -> None:
    shown = gitune("passport", AGENT, "-s", "training", "--format", "model-card")
    assert shown.code == 0, shown.err
    card, lock = ModelCard(shown.out), _lock(clone)
    assert card.data.base_model == lock.base_model
    accuracy, latency = card.data.eval_results
    assert (accuracy.metric_type, accuracy.metric_value) == ("accuracy", lock.benchmark["accuracy"])
    assert (latency.metric_value, latency.dataset_revision) == (
        lock.benchmark["latency_seconds"],
        lock.benchmark["fingerprint"],
    )
    assert f"agents/{AGENT}/data/train.jsonl | Apache-2.0" in card.text
    assert lock.passport is not None
    assert lock.passport in card.text


def test_an_ml_bom_that_is_valid_by_its_schema(clone: Path, gitune: Gitune) -> None:
    shown = gitune("passport", AGENT, "-s", "training", "--format", "ml-bom")
    assert shown.code == 0, shown.err
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(shown.out) is None
    bom, lock = json.loads(shown.out), _lock(clone)
    model = bom["metadata"]["component"]
    assert (model["type"], model["version"]) == ("machine-learning-model", lock.version)
    metrics = {item["type"]: item["value"] for item in model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]}
    assert metrics["accuracy"] == str(lock.benchmark["accuracy"])
    dataset = next(part for part in bom["components"] if part["type"] == "data")
    assert (dataset["version"], dataset["licenses"]) == (
        lock.dataset["fingerprint"],
        [{"license": {"id": "Apache-2.0"}}],
    )
    train = next(part for part in dataset["components"] if part["name"] == "train.jsonl")
    content = hashlib.sha256(_files(clone)["dataset"].read_bytes()).hexdigest()
    assert train["hashes"] == [{"alg": "SHA-256", "content": content}]
    assert model["modelCard"]["modelParameters"]["datasets"] == [{"ref": dataset["bom-ref"]}]
    assert gitune("passport", AGENT, "-s", "training", "--format", "ml-bom").out == shown.out


def test_the_passport_itself(clone: Path, gitune: Gitune) -> None:
    assert gitune("passport", AGENT, "-s", "training").out == _passport_file(clone).read_text()
    file = _passport_file(clone)
    file.write_text(file.read_text().replace("gitune.passport/1", "gitune.passport/9"))
    damaged = gitune("passport", AGENT, "-s", "training")
    assert (damaged.code, damaged.err.endswith(f"hint: run: gitune verify {AGENT}\n")) == (1, True)
