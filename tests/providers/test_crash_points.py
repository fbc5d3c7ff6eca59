"""A run of five agents is killed at every wire call and every write of a file, and then run again.

Each point ends with one paid job for each training key, and each agent has the model of its own job. The runs here are
without the engine, so that every point of every provider is tried in seconds; tests/test_crashes.py kills the whole of
`gitune up`.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gitune.training.base_model import DEFAULT_BASE_MODEL
from tests.crash_agents import DONE, INTERRUPTED
from tests.crashes import AGENTS, Account, Forks, Point, Trial, points_of, sample
from tests.servers import bedrock, huggingface, mistral, openai, ray_jobs

pytestmark = pytest.mark.slow


@contextmanager
def open_hub() -> Iterator[huggingface.HuggingFaceServer]:
    with huggingface.HuggingFaceServer() as server:
        server.add_repo("models", "org/base", {"config.json": b"{}"}, private=False)
        yield server


ACCOUNTS = [
    Account(
        "mistral",
        mistral.MistralServer,
        lambda server: {"MISTRAL_API_KEY": mistral.KEY, "MISTRAL_BASE_URL": server.url},
        lambda server, root: {},
        "open-mistral-7b",
        {"epochs": 3, "learning_rate": 1e-4},
        lambda facts: str(facts["suffix"]),
    ),
    Account(
        "openai",
        openai.OpenAIServer,
        lambda server: {"OPENAI_API_KEY": openai.KEY, "OPENAI_BASE_URL": server.url},
        lambda server, root: {},
        openai.BASE_MODELS[0],
        {"n_epochs": 3},
        lambda facts: str(facts["metadata"]["gitune_key"]),
    ),
    Account(
        "bedrock",
        bedrock.BedrockServer,
        lambda server: {
            "AWS_ACCESS_KEY_ID": bedrock.KEY_ID,
            "AWS_SECRET_ACCESS_KEY": bedrock.SECRET,
            "AWS_ENDPOINT_URL": server.url,
            "AWS_ENDPOINT_URL_S3": f"{server.url}/s3",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        },
        lambda server, root: {"region": bedrock.REGION, "role_arn": bedrock.ROLE, "bucket": bedrock.BUCKET},
        bedrock.BASE_MODEL,
        {"epochCount": 2, "batchSize": 32, "learningRateMultiplier": 1.0},
        lambda facts: str(facts["clientRequestToken"]),
    ),
    Account(
        "huggingface",
        open_hub,
        lambda server: {"HF_TOKEN": server.token, "HF_HUB_DISABLE_TELEMETRY": "1"},
        lambda server, root: {"base_url": server.url},
        "org/base",
        {"epochs": 1},
        lambda facts: str(facts["labels"]["gitune-key"]),
    ),
    Account(
        "ray",
        ray_jobs.RayServer,
        lambda server: {},
        lambda server, root: {"base_url": server.url, "store": f"file://{root / 'store'}"},
        DEFAULT_BASE_MODEL,
        {"epochs": 1},
        lambda facts: str(facts["metadata"]["gitune_key"]),
    ),
]


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks.opened() as forks:
        yield forks


WAYS = ("kill -9", "kill -9 while lists lag behind", "Ctrl-C")
CASES = [
    (account, way)
    for account in ACCOUNTS
    for way in WAYS
    if "lag" not in way or account.provider in ("mistral", "openai", "huggingface")  # the others' keys are the IDs
]
EVERY = 41


@contextmanager
def trial(account: Account, way: str, forks: Forks, folder: Path) -> Iterator[Trial]:
    with account.open_server() as server:
        server.jobs.lagging = "lag" in way
        yield Trial(account, server, folder, forks, signal.SIGINT if way == "Ctrl-C" else signal.SIGKILL)
        assert server.violations == []


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("account", "way"), CASES, ids=[f"{account.provider}, {way}" for account, way in CASES])
def test_one_paid_job_for_each_key_wherever_it_is_killed(
    account: Account, way: str, forks: Forks, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    with trial(account, way, forks, tmp_path / "whole") as whole:
        points = points_of(whole)
    wanted = points
    if not pytestconfig.getoption("--all-crashes"):
        wanted = sample(points, EVERY, first=CASES.index((account, way)))
    print(f"{account.provider}, {way}: {len(wanted)} of {len(points)} crash points")
    for point in wanted:
        with trial(account, way, forks, tmp_path / str(point)) as crashed:
            _check(crashed, point)


def _check(crashed: Trial, point: Point) -> None:
    ended = crashed.train_until(point)
    # Python loses a Ctrl-C that comes while it frees an object: then the run goes on to its end
    assert ended in ((INTERRUPTED, DONE) if crashed.signal == signal.SIGINT else (-signal.SIGKILL,)), point
    crashed.train(passes=1)  # at once: what may have been accepted is not asked for again
    assert set(crashed.paid_jobs().values()) <= {1}, point
    crashed.five_minutes_pass()
    assert crashed.train() == DONE, point
    assert crashed.paid_jobs() == {str(agent): 1 for agent in range(AGENTS)}, point
    assert crashed.models() == {str(agent): str(agent) for agent in range(AGENTS)}, point
