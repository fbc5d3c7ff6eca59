"""`gitune benchmark` and `gitune compare` through a provider's real SDK, inspect, and a server that misbehaves."""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("inspect_ai", reason="the extra 'benchmark' is not installed")

from gitune.lock import Lock, write_lock
from gitune.project import Project
from gitune.promote import Promotion, TrainedModel, examine, promote
from gitune.providers.base import Job, TrainingRequest
from gitune.spec import load_agents
from tests.conftest import REPOSITORY, Repository, Result, agent_yaml, case, example, jsonl
from tests.journey import call, start, wait_until
from tests.servers.base import Request, Response, route
from tests.servers.mistral import KEY, MistralServer

MODEL = "ft:open-mistral-7b:5010731d:20251031:ecc3829c"
OLDER = "ft:open-mistral-7b:5010731d:20251001:aaaaaaaa"
BASE = "open-mistral-7b"
INTENTS = ("refund", "delivery", "invoice")
EXAMPLES = [example(f"about {intent} number {n}", intent) for intent in INTENTS for n in range(8)]
CASES = [case(f"{intent}-{n}", f"please help with {intent} {n}", intent) for intent in INTENTS for n in range(12)]
Gitune = Callable[..., Result]


class Server(MistralServer):
    """Some questions are answered by something else: one answer of this list at a time, then as usual."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self.instead: dict[str, list[Response]] = {}
        self.asked: Counter[tuple[str, str]] = Counter()

    @route("POST", "/v1/chat/completions")
    def chat(self, request: Request) -> Response:
        question = request.json["messages"][-1]["content"]
        self.asked[request.json["model"], question] += 1
        time.sleep(self.seconds)
        planted = self.instead.get(question)
        return planted.pop(0) if planted else super().chat(request)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as server:
        for variable in ("MISTRAL_API_KEY", "MISTRAL_BASE_URL"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("MISTRAL_API_KEY", KEY)
        monkeypatch.setenv("MISTRAL_BASE_URL", server.url)
        server.known_models = {MODEL: BASE, OLDER: BASE}
        server.known_training = {
            MODEL: jsonl(EXAMPLES).encode(),
            OLDER: jsonl([row for row in EXAMPLES if "invoice" not in str(row)]).encode(),
        }
        yield server


@pytest.fixture
def project(repository: Repository, server: Server) -> Repository:
    stack = {"config": {"gitune:declare": ["deployments"], "gitune:locks": "agents"}}
    repository.write("Pulumi.production.yaml", yaml.safe_dump(stack))
    spec = agent_yaml(
        training=[{"provider": "mistral"}],
        benchmark={"cases": "benchmark/cases.jsonl", "latency_cases": 3},
    )
    repository.add_agent("support", spec, EXAMPLES, CASES)
    write_lock(repository.root / "agents" / "support" / "model.lock.yaml", lock("support"))
    return repository


def lock(agent: str) -> Lock:
    dataset, known = {"fingerprint": None, "examples": 24}, {"fingerprint": None}
    return Lock(agent, "1.0.0", "mistral", MODEL, BASE, "lora", {}, dataset, {}, known, {"gate": None})


def benchmark(gitune: Gitune, *arguments: str, code: int = 0) -> dict[str, Any]:
    result = gitune("benchmark", "support", "-s", "production", "--json", *arguments)
    assert result.code == code, result.err
    (found,) = json.loads(result.out)
    return found  # type: ignore[no-any-return]


def rescore(log: Path) -> list[tuple[str, int, float]]:
    """(case, run, right) recomputed from inspect's log alone: the answer against the target."""
    from inspect_ai.log import read_eval_log

    samples = read_eval_log(str(log)).samples or []
    return sorted(
        (str(sample.id), sample.epoch, float(sample.output.completion.strip() == str(sample.target).strip()))
        for sample in samples
    )


def test_tuned_model_against_its_base_model(project: Repository, server: Server, gitune: Gitune) -> None:
    found = benchmark(gitune)
    assert found["cases"] == 36
    assert found["model"]["score"] == 1.0
    assert found["baseline"]["score"] == 0.0
    assert found["model"]["errors"] == found["baseline"]["errors"] == []
    assert found["difference"]["low"] > 0.7
    assert found["model"]["latencies"] == 3
    assert len(found["differences"]) == 36
    assert set(Counter(server.asked.values())) == {1, 2}  # every case once, three of them again to time them
    assert server.violations == []


def test_the_numbers_are_those_of_inspects_log(project: Repository, gitune: Gitune) -> None:
    from inspect_ai.log import read_eval_log

    found = benchmark(gitune, "--runs", "2", "--against", f"mistral:{OLDER}")
    for side in ("model", "baseline"):
        scored = rescore(project.root / ".gitune" / found[side]["log"])
        assert len(scored) == 72
        assert statistics.fmean(value for _, _, value in scored) == pytest.approx(found[side]["score"])
        runs = [[value for _, epoch, value in scored if epoch == run] for run in (1, 2)]
        assert [statistics.fmean(run) for run in runs] == pytest.approx(found[side]["by_run"])
        timed = read_eval_log(str(project.root / ".gitune" / found[side]["latency_log"])).samples or []
        assert statistics.median(sample.output.time or 0 for sample in timed) == found[side]["latency_seconds"]
    assert found["baseline"]["score"] == pytest.approx(2 / 3)


def promoted(project: Repository, seconds: float | None = None) -> Promotion:
    """What `gitune up` does with a model that was trained."""
    request = TrainingRequest("mistral", BASE, "lora", {}, "0" * 64)
    model = TrainedModel(request, Job(request.key, "job", "succeeded", MODEL, seconds=seconds), 24)
    opened, (spec,) = Project.open("production", project.root), load_agents(project.root)
    challenger = examine(spec, opened, model, lambda *_: None)
    assert challenger is not None
    return promote([challenger], opened)["support"]


def recounted(project: Repository) -> dict[str, Any]:
    """What the independent script counts, which is what the lock says."""
    script = [sys.executable, str(REPOSITORY / "scripts" / "recount.py"), "agents/support/model.lock.yaml"]
    recount = subprocess.run(script, capture_output=True, text=True, check=False, cwd=project.root)
    assert recount.returncode == 0, recount.stderr
    counted: dict[str, Any] = json.loads(recount.stdout)
    said = yaml.safe_load((project.root / "agents" / "support" / "model.lock.yaml").read_text())["benchmark"]
    assert counted == {name: said[name] for name in counted}
    return counted


def test_the_lock_says_what_an_independent_script_counts(project: Repository) -> None:
    (project.root / "agents" / "support" / "model.lock.yaml").unlink()
    promotion = promoted(project, seconds=60.0)
    assert promotion.passed, promotion.verdict.reasons
    counted = recounted(project)
    assert (counted["cases"], counted["accuracy"], counted["base_accuracy"]) == (36, 1.0, 0.0)


def test_unanswered_cases_decide_nothing_unless_the_verdict_holds_either_way(
    project: Repository, server: Server
) -> None:
    lock_file = project.root / "agents" / "support" / "model.lock.yaml"
    lock_file.unlink()
    server.instead = {row["messages"][-1]["content"]: [Response(200, {"choices": []})] * 2 for row in CASES[:36:2]}
    first = promoted(project)
    assert first.verdict.outcome == "inconclusive"
    assert "36 answer(s) could not be had, and count as whatever speaks against" in first.verdict.reasons[0]
    assert not lock_file.exists()

    server.instead = {CASES[4]["messages"][-1]["content"]: [Response(200, {"choices": []})]}
    second = promoted(project)
    assert second.passed, second.verdict.reasons
    assert "answer(s) could not be had" in second.verdict.reasons[0]
    assert recounted(project)["missing"] == 1


def test_unchanged_is_free_and_a_new_scorer_asks_nobody(project: Repository, server: Server, gitune: Gitune) -> None:
    first = benchmark(gitune)
    asked = sum(server.asked.values())
    assert benchmark(gitune) == first
    assert sum(server.asked.values()) == asked

    spec = agent_yaml(
        training=[{"provider": "mistral"}],
        benchmark={"cases": "benchmark/cases.jsonl", "latency_cases": 3, "scorer": "f1"},
    )
    project.write("agents/support/agent.yaml", yaml.safe_dump(spec))
    again = benchmark(gitune)
    assert again["scorer"] == "f1"
    assert again["model"]["score"] == 1.0
    assert sum(server.asked.values()) == asked + 3  # the times, which are measured and not remembered


def test_failed_call_is_neither_right_nor_wrong_and_is_asked_again(
    project: Repository, server: Server, gitune: Gitune
) -> None:
    garbage, wrong, busy = CASES[0], CASES[9], CASES[17]
    server.instead = {
        garbage["messages"][-1]["content"]: [Response(200, {"choices": []})],
        wrong["messages"][-1]["content"]: [Response(422, {"detail": "too long"})],
        busy["messages"][-1]["content"]: [Response(429, {"message": "slow down"}, {"Retry-After": "0"})],
    }
    found = benchmark(gitune, "--against", f"mistral:{OLDER}", code=1)
    missing = {error["case"] for side in ("model", "baseline") for error in found[side]["errors"]}
    assert missing == {garbage["id"], wrong["id"]}
    before = sum(server.asked.values())
    again = benchmark(gitune, "--against", f"mistral:{OLDER}")
    assert again["model"]["errors"] == again["baseline"]["errors"] == []
    assert again["model"]["score"] == 1.0
    assert sum(server.asked.values()) - before <= 2 + 3 + 3


@pytest.mark.slow
def test_time_outs_and_long_limits_are_missing_and_asked_again(
    project: Repository, server: Server, gitune: Gitune, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gitune.hosted._TIMEOUT_SECONDS", 1.5)
    monkeypatch.setattr("gitune.hosted._PATIENCE_SECONDS", 1.0)
    late, busy = CASES[9], CASES[17]

    def keeps_waiting(number: int, phase: str) -> bool:
        slow = late["messages"][-1]["content"].encode() in server.requests[number - 1].body
        if slow and phase == "received":
            time.sleep(2.0)
        return slow

    server.watch = keeps_waiting
    limited = Response(429, {"message": "Requests rate limit exceeded"}, {"Retry-After": "0"})
    server.instead = {busy["messages"][-1]["content"]: [limited] * 1000}
    found = benchmark(gitune, code=1)
    for side in ("model", "baseline"):
        reasons = {error["case"]: error["reason"] for error in found[side]["errors"]}
        assert set(reasons) == {late["id"], busy["id"]}
        assert "no answer" in reasons[late["id"]]
        assert "rate limit" in reasons[busy["id"]]
    assert found["model"]["score"] == 1.0  # of the 34 that were answered
    assert found["difference"]["estimate"] == 1.0

    server.watch, server.instead = lambda *_: False, {}
    before = sum(server.asked.values())
    again = benchmark(gitune)
    assert again["model"]["errors"] == again["baseline"]["errors"] == []
    assert sum(server.asked.values()) - before == 2 + 2 + 3  # what was missing, and the times


def test_nothing_more_is_asked_with_a_wrong_key(
    project: Repository, server: Server, gitune: Gitune, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISTRAL_API_KEY", "another-key")
    result = gitune("benchmark", "support", "-s", "production")
    assert result.code == 1
    assert "Unauthorized" in result.err
    assert "another-key" not in result.err + result.out
    assert not server.asked


def test_compare_shows_both_answers(project: Repository, gitune: Gitune) -> None:
    result = gitune("compare", f"mistral:{OLDER}", "support@locked", "-s", "production")
    assert result.code == 0, result.err
    assert "+33.3 (" in result.out
    assert "invoice-0: 0 → 1" in result.out
    assert "  model    invoice" in result.out
    markdown = gitune("compare", f"mistral:{OLDER}", "support", "-s", "production", "--markdown").out
    assert markdown.count("| invoice-") == 12


def test_ten_cases_prove_nothing(project: Repository, gitune: Gitune) -> None:
    result = gitune("benchmark", "support", "-s", "production", "--cases", "10")
    assert result.code == 0, result.err
    assert "10 cases prove nothing" in result.out


def test_no_key_is_in_any_log(project: Repository, gitune: Gitune) -> None:
    from inspect_ai.log import read_eval_log

    benchmark(gitune)
    for path in (project.root / ".gitune").rglob("*"):
        if path.suffix == ".eval":
            assert KEY not in read_eval_log(str(path)).model_dump_json()
        elif path.is_file():
            assert KEY.encode() not in path.read_bytes()


def write_spec(project: Repository, scorer: Any) -> None:
    settings = {"cases": "benchmark/cases.jsonl", "latency_cases": 3, "scorer": scorer}
    spec = agent_yaml(training=[{"provider": "mistral"}], benchmark=settings)
    project.write("agents/support/agent.yaml", yaml.safe_dump(spec))


def test_judges_words_are_kept_and_no_grade_is_no_answer(project: Repository, server: Server, gitune: Gitune) -> None:
    judge = "ft:open-mistral-7b:5010731d:20251002:bbbbbbbb"
    verdicts = [
        example("refund answer", "It says so.\nGRADE: 1"),
        example("delivery answer", "Hm, hard to say."),
        example("invoice answer", "Hm, hard to say."),
    ]
    server.known_models[judge] = BASE
    server.known_training[judge] = jsonl(verdicts).encode()
    project.write("agents/support/judge.md", "{question} {target} answer {answer}")
    write_spec(project, {"judge": {"model": f"mistral:{judge}", "prompt": "judge.md"}})
    found = benchmark(gitune, code=1)
    assert found["scorer"] == "judge"
    assert found["model"]["score"] == 1.0
    assert {error["case"].split("-")[0] for error in found["model"]["errors"]} == {"delivery", "invoice"}
    assert "the judge gave no grade: 'Hm, hard to say.'" in found["model"]["errors"][0]["reason"]

    from inspect_ai.log import read_eval_log

    samples = read_eval_log(str(project.root / ".gitune" / found["model"]["log"])).samples or []
    kept = {score.explanation for sample in samples for score in (sample.scores or {}).values()}
    assert kept == {"It says so.\nGRADE: 1"}


def test_function_of_ones_own(project: Repository, gitune: Gitune) -> None:
    project.write("my_scorers.py", "def starts(answer, case):\n    return answer[:1] == case.target[:1]\n")
    write_spec(project, "my_scorers:starts")
    assert benchmark(gitune)["model"]["score"] == 1.0
    project.write("my_scorers.py", "def starts(answer, case):\n    return 7\n")
    write_spec(project, "my_scorers:start")
    assert "cannot be imported" in gitune("benchmark", "support", "-s", "production").err


def test_provider_that_is_down_is_not_asked_case_after_case(
    project: Repository, server: Server, gitune: Gitune
) -> None:
    for row in CASES:
        server.instead[row["messages"][-1]["content"]] = [Response(200, {"choices": []})] * 9
    result = gitune("benchmark", "support", "-s", "production")
    assert result.code == 1
    assert "not the protocol's" in result.err
    assert sum(server.asked.values()) < 36


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.long
def test_goes_on_where_it_was_stopped(project: Repository, server: Server, how: signal.Signals) -> None:
    server.seconds = 0.3
    arguments = ("benchmark", "support", "-s", "production", "--json")
    process = start(project, *arguments)
    wait_until(lambda: len(server.asked) > 12, "half of the base model's answers")
    process.send_signal(how)
    out, err = process.communicate(timeout=30)
    assert process.returncode == (130 if how == signal.SIGINT else -9), out + err
    assert "Traceback" not in err

    server.seconds = 0.0
    before = sum(server.asked.values())
    again = call(project, *arguments)
    assert again.code == 0, again.err
    (found,) = json.loads(again.out)
    assert (found["model"]["score"], found["baseline"]["score"]) == (1.0, 0.0)
    asked = sum(server.asked.values())
    assert asked - before < 2 * 36 + 3 - 4  # the first eight answers, at least some of them, are not asked for again


def test_inspect_is_imported_only_where_something_is_asked() -> None:
    code = (
        "import sys, gitune.up, gitune.promote, gitune.commands.benchmark, gitune.benchmark.run; "
        "sys.exit(any(name.split('.')[0] in ('inspect_ai', 'torch') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
