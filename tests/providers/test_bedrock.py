"""The bedrock provider through boto3, against a server that botocore's own service descriptions keep honest."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from moto.server import ThreadedMotoServer

from gitune.errors import InvalidInput, ProviderError, QuotaExceeded, Rejected, Retired, Unauthorized, Unavailable
from gitune.hosted import open_hosted
from gitune.prices import Tokens
from gitune.project import Project
from gitune.providers.aws import error_of_failure, open_client
from gitune.providers.base import Job, TrainingRequest, short
from gitune.providers.bedrock import BedrockProvider
from gitune.testing import Fault, ProviderConformance
from tests.servers.bedrock import BASE_MODEL, BUCKET, KEY_ID, REGION, ROLE, SECRET, BedrockServer
from tests.servers.learned import UNTUNED
from tests.servers.world import HttpWorld, write_dataset

EXAMPLES = [
    {
        "messages": [
            {"role": "system", "content": "Route it."},
            {"role": "user", "content": f"question {number}"},
            {"role": "assistant", "content": f"intent_{number % 3}"},
        ]
    }
    for number in range(40)
]


class BedrockWorld(HttpWorld):
    """An account with a bucket and a role, where each new model is given a provisioned throughput."""

    name = "bedrock"
    base_model = BASE_MODEL
    server: BedrockServer

    def __init__(self, server: BedrockServer, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION"):
            monkeypatch.delenv(name, raising=False)
        environment = {
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": server.url,
            "AWS_ENDPOINT_URL_S3": f"{server.url}/s3",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(root / "none"),
            "AWS_SHARED_CREDENTIALS_FILE": str(root / "none"),
        }
        super().__init__(server, root, monkeypatch, environment)
        write_dataset(self.dataset(), EXAMPLES)
        (self.dataset() / "validation.jsonl").write_text(json.dumps(EXAMPLES[0]) + "\n")
        self.block: dict[str, Any] = {}
        server.provisions_models = True

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "region": REGION, "role_arn": ROLE, "bucket": BUCKET, **self.block}

    def request(self, number: int = 0) -> TrainingRequest:
        values = {**BedrockProvider.defaults.hyperparameters, "epochCount": 1 + number}
        return TrainingRequest("bedrock", BASE_MODEL, "lora", values, "f" * 64)

    def refused_request(self) -> TrainingRequest:
        return TrainingRequest("bedrock", BASE_MODEL, "lora", {"epochs": 3}, "f" * 64)

    def with_block(self, **block: Any) -> BedrockProvider:
        """The provider with these settings of the stack besides."""
        self.block = block
        return cast(BedrockProvider, self.provider())

    def trained(self) -> Job:
        job = self.provider().submit_job(self.request(), self.dataset())
        self.finish(job)
        found = self.provider().find_job(job.key)
        assert found is not None
        return found


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BedrockWorld]:
    with BedrockServer() as server:
        yield BedrockWorld(server, tmp_path, monkeypatch)
        assert server.violations == []


class TestBedrock(ProviderConformance):
    @pytest.fixture
    def world(self, world: BedrockWorld) -> BedrockWorld:
        return world


# --- what is submitted


def test_the_order_as_bedrock_sees_it(world: BedrockWorld) -> None:
    key = world.request().key
    world.with_block(prefix="team/agents", kms_key="alias/gitune").submit_job(world.request(), world.dataset())
    (job,) = world.server.jobs.all.values()
    order = dict(job.facts)
    train, validation = sorted(world.server.contents, key=lambda uri: -len(world.server.contents[uri]))
    assert re.fullmatch(rf"s3://{BUCKET}/team/agents/[0-9a-f]{{64}}\.jsonl", train)
    assert order == {
        "jobName": f"gitune-{short(key)}",
        "customModelName": f"gitune-{short(key)}",
        "clientRequestToken": key,
        "roleArn": ROLE,
        "baseModelIdentifier": BASE_MODEL,
        "customizationType": "FINE_TUNING",
        "customModelKmsKeyId": "alias/gitune",
        "jobTags": [{"key": "gitune:key", "value": key}],
        "customModelTags": [{"key": "gitune:key", "value": key}],
        "hyperParameters": {"epochCount": "1", "batchSize": "32", "learningRateMultiplier": "1.0"},
        "trainingDataConfig": {"s3Uri": train},
        "validationDataConfig": {"validators": [{"s3Uri": validation}]},
        "outputDataConfig": {"s3Uri": f"s3://{BUCKET}/team/agents/output/"},
    }
    first = json.loads(world.server.contents[train].splitlines()[0])
    assert first == {
        "system": "Route it.",
        "messages": [{"role": "user", "content": "question 0"}, {"role": "assistant", "content": "intent_0"}],
    }


def test_without_examples_held_back_there_is_no_validation_data(world: BedrockWorld) -> None:
    (world.dataset() / "validation.jsonl").write_text("")
    world.provider().submit_job(world.request(), world.dataset())
    (job,) = world.server.jobs.all.values()
    assert "validationDataConfig" not in job.facts
    assert len(world.server.contents) == 1


@pytest.mark.parametrize("setting", ["role_arn", "bucket"])
def test_a_setting_that_is_needed_is_named_before_any_call(setting: str, world: BedrockWorld) -> None:
    with pytest.raises(Unauthorized, match=setting) as raised:
        world.with_block(**{setting: None}).submit_job(world.request(), world.dataset())
    assert setting in str(raised.value.hint)
    assert world.calls() == 0


def test_the_region_is_of_the_stack_or_of_the_environment(world: BedrockWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unauthorized, match="region") as raised:
        world.with_block(region=None).find_job(world.request().key)
    assert "AWS_REGION" in str(raised.value.hint)
    monkeypatch.setenv("AWS_REGION", REGION)
    assert world.with_block(region=None).find_job(world.request().key) is None


def test_a_missing_bucket_is_said_before_a_job_is_paid_for(world: BedrockWorld) -> None:
    with pytest.raises(Unauthorized, match="NoSuchBucket") as raised:
        world.with_block(bucket="no-such-bucket").submit_job(world.request(), world.dataset())
    assert "bucket" in str(raised.value.hint)
    assert world.jobs() == 0


def test_who_may_not_list_the_bucket_can_upload_all_the_same(world: BedrockWorld) -> None:
    world.server.may_list = False
    assert world.provider().submit_job(world.request(), world.dataset()).live


@pytest.mark.parametrize(
    ("base_model", "hyperparameters", "names"),
    [
        (BASE_MODEL, {"epochCount": 11, "batchSize": 4.0, "learningRateMultiplier": True}, 3),
        (BASE_MODEL, {"epochCount": 1, "batchSize": 256, "learningRateMultiplier": 2, "earlyStoppingPatience": 1}, 0),
        ("amazon.nova-lite-v1:0", {}, 1),
        (f"arn:aws:bedrock:us-west-2::foundation-model/{BASE_MODEL}", {}, 0),
    ],
)
def test_check_knows_the_ranges(
    base_model: str, hyperparameters: dict[str, object], names: int, world: BedrockWorld
) -> None:
    problems = world.provider().check(TrainingRequest("bedrock", base_model, "lora", hyperparameters, "f" * 64))
    assert len(problems) == names


def test_check_asks_whether_another_word_was_meant(world: BedrockWorld) -> None:
    (problem,) = world.provider().check(TrainingRequest("bedrock", BASE_MODEL, "lora", {"epochcount": 2}, "f" * 64))
    assert (problem.file, problem.hint) == ("epochcount", "did you mean 'epochCount'?")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("role_arn", "gitune-bedrock"),
        ("bucket", "s3://genesis-agents"),
        ("prefix", "/gitune/"),
        ("region", "Oregon"),
        ("secret", "x"),
    ],
)
def test_its_block_of_a_stack_is_checked_with_file_and_line(key: str, value: str, tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: x\nruntime: python\n")
    block = f"config:\n  gitune:providers:\n    bedrock:\n      concurrency: 2\n      {key}: {value}\n"
    (tmp_path / "Pulumi.dev.yaml").write_text(block)
    with pytest.raises(InvalidInput) as raised:
        Project.open("dev", tmp_path)
    (problem,) = raised.value.problems
    assert (problem.file, problem.line) == ("Pulumi.dev.yaml", 5)


# --- attempts


def test_a_new_attempt_has_a_name_and_a_token_of_its_own(world: BedrockWorld) -> None:
    key = world.request().key
    world.accept_then_fail("The training data could not be read: internal error.")
    world.finish(world.provider().submit_job(world.request(), world.dataset()))
    second = world.provider().submit_job(world.request(), world.dataset())
    world.provider().cancel_job(second.job_id)
    third = world.second_clone().submit_job(world.request(), world.dataset())
    facts = [job.facts for job in world.server.jobs.all.values()]
    assert [item["jobName"] for item in facts] == [f"gitune-{short(key)}{end}" for end in ("", "-2", "-3")]
    assert [item["clientRequestToken"] for item in facts] == [f"{key}{end}" for end in ("", "-2", "-3")]
    found = world.provider().find_job(key)
    assert found is not None
    assert found.job_id == third.job_id


def test_a_second_attempt_whose_answer_is_lost_is_not_paid_for_twice(world: BedrockWorld) -> None:
    world.provider().cancel_job(world.provider().submit_job(world.request(), world.dataset()).job_id)
    world.lag_lists()
    world.plant(Fault("lost"), on="submit")
    with pytest.raises(Unavailable):
        world.provider().submit_job(world.request(), world.dataset())
    adopted = world.second_clone().submit_job(world.request(), world.dataset())
    assert world.jobs() == 2
    assert adopted.live
    assert list(world.server.jobs.all)[-1] == adopted.job_id


def test_nothing_new_starts_until_a_stopped_job_has_stopped(world: BedrockWorld) -> None:
    world.server.stopping_seconds = 60.0
    first = world.provider().submit_job(world.request(), world.dataset())
    world.provider().cancel_job(first.job_id)
    stopping = world.provider().submit_job(world.request(), world.dataset())
    assert (stopping.job_id, stopping.live, stopping.detail) == (first.job_id, True, "stopping")
    world.provider().cancel_job(first.job_id)  # it is on its way already
    world.server.clock.advance(60.0)
    assert world.provider().submit_job(world.request(), world.dataset()).job_id != first.job_id


def test_a_name_that_was_taken_a_moment_ago_is_looked_for_again(world: BedrockWorld) -> None:
    world.server.codes.append((400, "ValidationException", "The provided job name is currently in use."))
    with pytest.raises(Unavailable):
        world.provider().submit_job(world.request(), world.dataset())
    assert world.provider().submit_job(world.request(), world.dataset()).live


# --- limits and errors


def test_two_jobs_at_once_and_the_third_waits_unpaid(world: BedrockWorld) -> None:
    jobs = [world.provider().submit_job(world.request(number), world.dataset()) for number in range(2)]
    with pytest.raises(QuotaExceeded, match="2 are in progress") as raised:
        world.provider().submit_job(world.request(2), world.dataset())
    assert raised.value.kind == "concurrent"
    assert world.jobs() == 2
    world.finish(jobs[0])
    assert world.provider().submit_job(world.request(2), world.dataset()).live


def test_the_accounts_own_limit_queues_too(world: BedrockWorld) -> None:
    for number in range(2):
        world.provider().submit_job(world.request(number), world.dataset())
    with pytest.raises(QuotaExceeded, match="ServiceQuotaExceededException") as raised:
        world.with_block(concurrency=3).submit_job(world.request(2), world.dataset())
    assert raised.value.kind == "concurrent"


@pytest.mark.parametrize(
    ("status", "code", "words", "error"),
    [
        (400, "ConflictException", "Another operation is in progress.", Unavailable),
        (400, "ServiceQuotaExceededException", "Your account has reached its custom models.", QuotaExceeded),
        (400, "ValidationException", "1 validation error detected", Rejected),
        (403, "AccessDeniedException", "You don't have access to the model.", Unauthorized),
        (403, "ExpiredTokenException", "The security token is expired.", Unauthorized),
        (400, "ValidationException", "anthropic.claude-v2 is no longer supported.", Retired),
        (404, "ResourceNotFoundException", "Access denied. This Model is marked by provider as Legacy.", Retired),
    ],
)
def test_a_refusal_has_the_class_that_it_means(
    status: int, code: str, words: str, error: type[Exception], world: BedrockWorld
) -> None:
    world.server.codes.append((status, code, words))
    with pytest.raises(error, match=code):
        world.provider().submit_job(world.request(), world.dataset())
    assert world.jobs() == 0


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (503, "SlowDown", Unavailable),
        (500, "InternalError", Unavailable),
        (403, "AccessDenied", Unauthorized),
        (400, "ExpiredToken", Unauthorized),
    ],
)
def test_an_upload_that_fails_costs_nothing(
    status: int, code: str, error: type[Exception], world: BedrockWorld
) -> None:
    world.server.upload_codes.append((status, code, "planted by the test"))
    with pytest.raises(error, match=code):
        world.provider().submit_job(world.request(), world.dataset())
    assert world.jobs() == 0
    assert world.provider().submit_job(world.request(), world.dataset()).live


def test_a_base_model_at_the_end_of_its_life_is_retired(world: BedrockWorld) -> None:
    world.server.retired.add(BASE_MODEL)
    with pytest.raises(Retired, match="end of its life"):
        world.provider().submit_job(world.request(), world.dataset())


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("", ProviderError),
        ("Amazon Bedrock encountered an internal error.", ProviderError),
        ("The base model has reached the end of its life.", Retired),
        ("The training dataset has fewer than 32 records.", Rejected),
    ],
)
def test_a_failed_job_says_what_kind_of_failure(words: str, error: type[ProviderError]) -> None:
    assert type(error_of_failure(words)) is error


def test_a_dataset_that_is_too_small_is_refused_before_it_is_sent(world: BedrockWorld) -> None:
    train = world.dataset() / "train.jsonl"
    train.write_text("".join(train.read_text().splitlines(keepends=True)[:31]))
    with pytest.raises(Rejected, match="at least 32"):
        world.provider().submit_job(world.request(), world.dataset())
    assert world.jobs() == world.uploads() == 0


def test_many_jobs_are_listed_page_by_page(world: BedrockWorld) -> None:
    world.server.page_size, world.server.jobs.limits.running = 2, None
    keys = [
        world.with_block(concurrency=9).submit_job(world.request(number), world.dataset()).key for number in range(5)
    ]
    before = world.calls()
    assert set(world.provider().list_jobs(keys)) == set(keys)
    assert world.calls() - before == 3


# --- models


def test_a_model_that_nothing_serves_cannot_be_asked_and_the_hint_says_what_to_start(world: BedrockWorld) -> None:
    world.server.provisions_models = False
    with pytest.raises(Unavailable, match="nothing on Bedrock serves arn:aws:bedrock:") as raised:
        world.provider().chat_target(str(world.trained().model_id))
    assert "provisioned throughput" in str(raised.value.hint)


@pytest.mark.parametrize("kind", ["provision", "deploy"])
def test_a_model_answers_through_what_serves_it(kind: str, world: BedrockWorld) -> None:
    world.server.provisions_models = False
    model_id = str(world.trained().model_id)
    serving = getattr(world.server, kind)(model_id)
    target = world.provider().chat_target(model_id)
    assert (target.model, target.region) == (serving, REGION)
    question = [{"role": "system", "content": "Route it."}, {"role": "user", "content": "question 7"}]
    model = open_hosted(target)
    assert model.answer(question, 9).text == "intent_1"
    assert "".join(model.stream(question, 9)) == "intent_1"
    base = open_hosted(replace(target, model=target.base_model))
    assert "".join(base.stream(question, 9)) == base.answer(question, 9).text == UNTUNED


def test_an_archived_model_has_a_tag_and_is_kept(world: BedrockWorld) -> None:
    model_id = str(world.trained().model_id)
    world.provider().archive_model(model_id)
    assert world.server.tags[model_id] == {"gitune:key": world.request().key, "gitune:archived": "true"}
    assert not any(request.method == "DELETE" for request in world.server.requests)
    assert world.provider().chat_target(model_id)


# --- a second opinion


def test_moto_takes_the_same_requests(world: BedrockWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another emulation of Amazon, not of our making. Its jobs never end."""
    other = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    other.start()
    try:
        host, port = other.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
        provider = world.with_block(timeout_seconds=20.0)
        s3 = open_client("s3", REGION, 20.0)
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        job = provider.submit_job(world.request(), world.dataset())
        assert provider.submit_job(world.request(), world.dataset()).job_id == job.job_id
        assert provider.list_jobs([job.key])[job.key].status == "running"
        assert len(s3.list_objects_v2(Bucket=BUCKET)["Contents"]) == 2
    finally:
        other.stop()


def test_an_estimate_is_by_the_stacks_own_price(world: BedrockWorld) -> None:
    assert world.provider().estimate(world.request(), Tokens(100_000)).usd is None
    own = world.with_block(prices={BASE_MODEL: {"usd_per_million_tokens": [2.0, 2.5, 3.0]}})
    assert own.estimate(world.request(1), Tokens(1_000_000)).usd == pytest.approx((4.0, 5.0, 6.0))
