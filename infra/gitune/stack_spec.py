"""The stack's `gitune:` config becomes a frozen value, or a list of everything wrong with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from gitune.allow_spec import StackAllow
from gitune.errors import InvalidInput, Problem
from gitune.hints import did_you_mean, one_of
from gitune.spec import Dollars
from gitune.store_url import check_store_url
from gitune.validation import Value, validated
from gitune.yaml_source import YamlSource, parse_yaml


class Budgets(Value):
    """US dollars that a stack may spend. None: no budget."""

    plan: Annotated[Dollars | None, Field(description="On all that one `gitune up` submits.")] = None
    month: Annotated[Dollars | None, Field(description="In a calendar month (UTC).")] = None


class SmokeTest(Value):
    """What a model must show behind its alias before it stays there."""

    questions: Annotated[int, Field(ge=1, le=100, description="How many of the agent's cases are asked.")] = 2
    max_seconds: Annotated[float, Field(gt=0, le=600, description="Longest time for each answer.")] = 30.0
    gateway: Annotated[
        str | None,
        Field(
            pattern=r"^https?://[^\s/@]+(/[^\s@]*)?$",
            description="Asked here, such as https://models.example.org/v1; left out: where the provider answers.",
        ),
    ] = None


class VllmServer(Value):
    """A vLLM server that adapters are loaded into: `--enable-lora`, VLLM_ALLOW_RUNTIME_LORA_UPDATING=True."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s/@]+$", description="Such as http://vllm:8000.")]
    adapters: Annotated[
        str | None,
        Field(min_length=1, description="Where the server sees this repository's .gitune; left out: at the same path."),
    ] = None


class ProvisionedThroughput(Value):
    """What Bedrock bills by the hour, for each alias."""

    model_units: Annotated[int, Field(ge=1, le=100, description="How many.")] = 1
    commitment: Annotated[
        Literal["OneMonth", "SixMonths"] | None, Field(description="Left out: ended at any time, at a higher price.")
    ] = None


class Hosting(Value):
    """Where models are put so that they answer."""

    vllm: Annotated[VllmServer | None, Field(description="For adapters of local, ray and huggingface.")] = None
    bedrock: Annotated[ProvisionedThroughput | None, Field(description="For custom models of bedrock.")] = None


def _as_number(value: Any) -> Any:
    """The engine, when it adds its salt to the stack's file, writes a number of the top level as text."""
    return float(value) if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?", value) else value


class StackSpec(Value):
    """The `gitune:` config of one Pulumi.<stack>.yaml."""

    name: str
    declare: Annotated[
        tuple[Literal["models", "deployments"], ...],
        Field(strict=False, description="What the stack owns: it trains models, it points aliases at them, or both."),
    ] = ("models", "deployments")
    provider: Annotated[str | None, Field(description="Every agent trains here, whatever its agent.yaml lists.")] = None
    locks: Annotated[str, Field(description="Where locks live: 'agents' or a folder of the repository.")] = "agents"
    routes: Annotated[str, Field(description="The file that maps aliases to models.")] = ".gitune/routes.json"
    hosting: Annotated[
        Hosting, Field(description="Where models are put; left out: they answer where their provider says.")
    ] = Hosting()
    canary: Annotated[
        float | None,
        BeforeValidator(_as_number),
        Field(gt=0, lt=1, description="Share of requests that a new version answers; left out: all of them, at once."),
    ] = None
    smoke_test: Annotated[
        SmokeTest | None, Field(description="Each new model is asked behind its alias, and taken back if it fails.")
    ] = None
    store: Annotated[
        str,
        Field(min_length=1, description="Where datasets are published: a folder of the repository, or s3://, gs://."),
        AfterValidator(check_store_url),
    ] = ".gitune/store"
    budget_usd: Annotated[Budgets, Field(description="US dollars for one plan and for a month.")] = Budgets()
    fleet_share: Annotated[
        float,
        BeforeValidator(_as_number),
        Field(gt=0, le=1, description="Of the deployed agents, the most that may change at once; one always may."),
    ] = 0.5
    allow: Annotated[
        tuple[StackAllow, ...], Field(strict=False, description="Rules that let agents pass (gitune's docs/rules.md).")
    ] = ()
    providers: Annotated[
        dict[str, dict[str, Any]], Field(description="Settings by provider; `check_settings` knows their keys.")
    ] = Field(default_factory=dict)


def load_stack(root: Path, name: str) -> tuple[StackSpec, YamlSource]:
    """The stack's `gitune:` config, and the file for the lines of what is wrong below it. Raises InvalidInput."""
    path = root / f"Pulumi.{name}.yaml"
    if not path.is_file():
        known = sorted(p.name[7:-5] for p in root.glob("Pulumi.*.yaml"))
        raise InvalidInput([Problem(path.name, 0, f"no stack '{name}'", did_you_mean(name, known) or one_of(known))])
    source = parse_yaml(path.read_bytes(), path.name)
    if source.problems:
        raise InvalidInput(source.problems)
    config = (source.data or {}).get("config") if isinstance(source.data, dict) else None
    if config is not None and not isinstance(config, dict):
        raise InvalidInput([source.problem(("config",), "config must be a mapping")])
    ours = {key[7:]: value for key, value in (config or {}).items() if str(key).startswith("gitune:")}
    if "name" in ours:
        raise InvalidInput([source.problem(("config", "gitune:name"), "unknown key 'gitune:name'")])
    value, problems = validated(
        StackSpec, {**ours, "name": name}, source, lambda loc: ("config", f"gitune:{loc[0]}", *loc[1:])
    )
    if value is None:
        raise InvalidInput(problems)
    return value, source
