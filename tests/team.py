"""A team's repository with two agents, two versions of one of them, and the servers that it needs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import Repository, agent_yaml, case, example
from tests.crashes import one_authority
from tests.reader import Shell
from tests.servers import mistral, openai

TOPICS = {
    "track_order": "parcel",
    "refund": "money back",
    "cancel": "subscription",
    "password": "password",
    "invoice": "invoice",
    "address": "delivery address",
}
WAYS = ("where is my {}", "what about the {}", "I have a question: {}", "please, my {}")
NEW_WAY = "tell me of my {}"
VERSIONS = ("1.0.0", "1.1.0")
MERGE = "git add --all && git commit --quiet -m '{}' && git push --quiet"


@dataclass(frozen=True)
class Team:
    """`at` gives a copy to work in, as main was when the version had been merged. The last one is in production."""

    folder: Path
    openai: openai.OpenAIServer
    mistral: mistral.MistralServer
    environment: dict[str, str]

    def at(self, version: str, folder: Path) -> tuple[Shell, Repository]:
        """A clone below `folder`, with its origin, its state and somebody's shell in it."""
        shutil.copytree(self.folder / version, folder, dirs_exist_ok=True)
        return Shell.beside(folder / "work", **self.environment), Repository(folder / "work")


@contextmanager
def opened(folder: Path) -> Iterator[Team]:
    """Made with the command line. A job of the servers ends with their next answer."""
    with openai.OpenAIServer() as first, mistral.MistralServer() as second:
        first.seconds_per_request = second.seconds_per_request = 600.0  # what a job takes
        environment = {
            "OPENAI_API_KEY": openai.KEY,
            "OPENAI_BASE_URL": first.url,
            "MISTRAL_API_KEY": mistral.KEY,
            "MISTRAL_BASE_URL": second.url,
            "SSL_CERT_FILE": str(one_authority(folder / "authority")),
        }
        team = Team(folder, first, second, environment)
        _make(team)
        yield team
        violations = [*first.violations, *second.violations]
        assert not violations, violations


def _make(team: Team) -> None:
    now = team.folder / "now"
    root = now / "work"
    root.mkdir(parents=True)
    shell, repository = Shell.beside(root, **team.environment), Repository(root)
    shell.types("gitune init --no-github --name team")
    for agent in ("support", "qa"):
        add_agent(repository, agent)
    shell.types("git init --quiet --bare ../origin.git && git remote add origin ../origin.git")
    shell.types("git add --all && git commit --quiet -m Agents && git push --quiet -u origin main")
    for number, version in enumerate(VERSIONS, start=1):
        if version != VERSIONS[0]:
            add_agent(repository, "support", (*WAYS, NEW_WAY))
            shell.types(MERGE.format("New words"))
        shell.types("gitune up -s training --poll 0.1")
        shell.types(MERGE.format(f"Lock support {version} (#{number})"))
        if version == VERSIONS[-1]:
            shell.types("gitune up -s production")
            shell.types("gitune tag --stage production --push origin")
        shutil.copytree(now, team.folder / version, ignore=shutil.ignore_patterns("home"))


def add_agent(repository: Repository, agent: str, ways: Sequence[str] = WAYS) -> None:
    """One that routes messages; to ask it all cases takes a second."""
    repository.add_agent(agent, _spec(agent), _examples(agent, ways), _cases())


def _spec(agent: str) -> dict[str, object]:
    sources = [{"path": "data/train.jsonl", "licence": "CC0-1.0"}]
    return agent_yaml(
        alias=agent,
        dataset={"sources": sources, "validation": 0.0},
        training=[{"provider": "openai"}],
        gate={"min_improvement": 0.3, "min_cases": 10, "max_latency_seconds": 5},
    )


def _examples(agent: str, ways: Sequence[str]) -> list[object]:
    said = f" {agent}" if agent != "support" else ""
    return [example(way.format(words) + said, topic) for way in ways for topic, words in TOPICS.items()]


def _cases() -> list[object]:
    asked = ("hello, I want my {} today", "no {} since Monday!")
    return [
        case(f"{topic}-{number}", way.format(words), topic)
        for topic, words in TOPICS.items()
        for number, way in enumerate(asked)
    ]
