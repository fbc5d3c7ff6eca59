"""agent.yaml becomes a frozen value, or a list of everything wrong with it."""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from gitune.allow_spec import Allow
from gitune.errors import InvalidInput, Problem
from gitune.safety_spec import SafetySpec
from gitune.scorer_spec import Plain, Scorer
from gitune.validation import Value, validated
from gitune.yaml_source import parse_yaml

_RELATIVE = re.compile(r"^\d{1,4}(\.\d{1,4})? ?%$")
MAX_SPEC_BYTES = 1_000_000
AGENT_NAME = re.compile(r"[a-z][a-z0-9_-]{0,38}[a-z0-9]")
Scalar: typing.TypeAlias = bool | int | float | str | list[str] | None
Severity: typing.TypeAlias = Literal["error", "drop", "warn", "off"]
RuleId: typing.TypeAlias = Literal[
    "schema",
    "encoding",
    "language",
    "email",
    "phone",
    "credit-card",
    "api-key",
    "too-long",
    "exact-duplicate",
    "near-duplicate",
    "contradiction",
    "leak",
    "near-leak",
]


def _as_written(value: Any) -> Any:
    """YAML 1.1 reads a bare `off` as false."""
    return "off" if value is False else value


class Columns(Value):
    """Which columns make a message: a column's name, or a template such as "{title}: {text}"."""

    system: Annotated[str | None, Field(min_length=1, description="Plain text, a column or a template.")] = None
    user: Annotated[str, Field(min_length=1, description="A column or a template.")]
    assistant: Annotated[str, Field(min_length=1, description="A column or a template.")]


class Source(Value):
    """Files of examples: JSONL, JSON, CSV, TSV or Parquet, also packed as .gz or .zst."""

    path: Annotated[
        str,
        Field(
            min_length=1,
            description="A file or a glob relative to the agent's folder, or hf://, s3://, gs://, https://.",
        ),
    ]
    licence: Annotated[str | None, Field(description="Licence of these examples, such as CC-BY-4.0.")] = None
    format: Annotated[
        Literal["messages", "prompt-completion", "alpaca", "sharegpt"] | None,
        Field(description="The shape of a row; left out: that of the first row."),
    ] = None
    columns: Annotated[Columns | None, Field(description="Makes messages of plain columns.")] = None
    sha256: Annotated[
        str | None, Field(pattern=r"^[0-9a-f]{64}$", description="Pins the content of a remote file.")
    ] = None

    @property
    def is_remote(self) -> bool:
        return "://" in self.path

    def matches(self, folder: Path) -> list[Path]:
        """The local files that are meant, sorted; one that need not exist when `path` is no glob."""
        if not any(char in self.path for char in "*?["):
            return [folder / self.path]
        return sorted(path for path in folder.glob(self.path) if path.is_file())


class DatasetSpec(Value):
    """Where an agent's examples come from and how they are split."""

    sources: Annotated[tuple[Source, ...], Field(min_length=1, strict=False)]
    validation: Annotated[
        float, Field(ge=0, le=0.5, description="Share of examples held back to follow the loss, 0 to 0.5.")
    ] = 0.05
    seed: Annotated[int, Field(ge=0, description="Changes which examples are chosen and held back.")] = 0
    examples: Annotated[
        int | None, Field(ge=1, description="How many are chosen; left out: all, or the most that keeps the mix.")
    ] = None
    stratify_by: Annotated[
        str | None,
        Field(min_length=1, description="Keeps shares: 'assistant' (the answer), or a column or metadata key."),
    ] = None
    mix: Annotated[
        dict[str, Annotated[float, Field(gt=0, le=1)]] | None,
        Field(min_length=1, description="Shares of agents' own sources, this one's included; they sum to 1."),
    ] = None
    weights: Annotated[
        Literal["error", "sample"],
        Field(description="Weights of whole examples: error refuses them, sample repeats and leaves out examples."),
    ] = "error"
    language: Annotated[
        str | None, Field(pattern=r"^[a-z]{2}$", description="ISO 639-1 code that every example is written in.")
    ] = None
    rules: Annotated[
        dict[RuleId, Annotated[Severity, BeforeValidator(_as_written)]],
        Field(description="What a rule's finding does: error stops, drop leaves the example out, warn lists it, off."),
    ] = Field(default_factory=dict)


class Candidate(Value):
    """One entry of `training:`, tried in order."""

    provider: Annotated[str, Field(min_length=1, description="A provider's name, such as local.")]
    base_model: Annotated[
        str | None, Field(description="The provider's name of the base model; left out: the provider's default.")
    ] = None
    method: Annotated[Literal["lora"], Field(description="How the base model is tuned.")] = "lora"
    hyperparameters: Annotated[
        dict[str, Scalar], Field(description="The provider's own names; what is left out takes its default.")
    ] = Field(default_factory=dict)
    wait: Annotated[
        str | None,
        Field(
            pattern=r"^[1-9][0-9]{0,4}[mhd]$",
            description="How long a limit is waited out before the next candidate: 90m, 24h or 7d. Left out: while "
            "jobs run, as long as they do; a limit that does not free up by itself, not at all.",
        ),
    ] = None

    @property
    def wait_seconds(self) -> float | None:
        return (
            None if self.wait is None else int(self.wait[:-1]) * {"m": 60.0, "h": 3600.0, "d": 86_400.0}[self.wait[-1]]
        )


class BenchmarkSpec(Value):
    """The held-out cases and how an answer is scored."""

    cases: Annotated[str, Field(min_length=1, description="JSONL of cases (messages, target), beside agent.yaml.")]
    scorer: Annotated[
        Scorer,
        Field(description="How an answer is compared with its target.", json_schema_extra={"default": "exact"}),
    ] = Scorer(exact=Plain())
    runs: Annotated[int, Field(ge=1, le=100, description="How often every case is asked.")] = 1
    max_new_tokens: Annotated[int, Field(ge=1, le=4096, description="Longest answer, in tokens.")] = 32
    latency_cases: Annotated[int, Field(ge=1, le=1000, description="Cases answered one by one to time them.")] = 20


def _check_improvement(value: Any) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and -1 <= value <= 1:
        return float(value)
    if isinstance(value, str) and _RELATIVE.fullmatch(value):
        return value
    hint = "points as a number, 0.08 for 8, or a share of what the base model scores, such as '8%'"
    raise PydanticCustomError("improvement", "cannot be {value}", {"value": repr(value), "hint": hint})


class GateSpec(Value):
    """What a challenger must show before it gets a lock. A number is absolute: 0.08 is 8 points of accuracy."""

    min_improvement: Annotated[
        Annotated[float, Field(ge=-1, le=1)] | Annotated[str, Field(pattern=_RELATIVE.pattern)],
        BeforeValidator(_check_improvement),
        Field(
            description="Least rise of accuracy over the base model: 0.08 is 8 points, '8%' is 8 % of what the base "
            "model scores. -1 asks for nothing."
        ),
    ] = 0.08
    prove: Annotated[
        Literal["rise", "threshold"],
        Field(
            description="rise: the interval lies above 0 and reaches min_improvement, and the cases suffice to find "
            "such a rise. threshold: the whole interval lies at min_improvement or above."
        ),
    ] = "rise"
    min_cases: Annotated[
        int, Field(ge=1, description="Fewer cases, or sources of cases, prove nothing: inconclusive.")
    ] = 30
    max_regression: Annotated[
        float, Field(ge=0, le=1, description="Most accuracy that may be lost against the model that is deployed.")
    ] = 0.02
    max_latency_seconds: Annotated[
        float, Field(gt=0, description="Most seconds per answer at the percentile below.")
    ] = 2.0
    latency_percentile: Annotated[
        Literal[50, 95, 99], Field(description="Which answer is looked at: 50 is the median, 99 nearly the slowest.")
    ] = 50
    max_variation: Annotated[
        float | None,
        Field(
            gt=0,
            le=1,
            description="Largest standard deviation of the accuracies of at least 3 runs, in points (0.05 = 5).",
        ),
    ] = None

    @property
    def relative_improvement(self) -> float | None:
        """0.08 for '8%'; None where `min_improvement` is in points."""
        return float(self.min_improvement.rstrip(" %")) / 100 if isinstance(self.min_improvement, str) else None


Dollars: typing.TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""US dollars."""


class AgentSpec(Value):
    """One agent: everything that its agent.yaml says."""

    name: SkipJsonSchema[str]
    folder: SkipJsonSchema[Path]
    description: Annotated[str, Field(description="What the agent does, in a line.")] = ""
    alias: Annotated[
        str,
        Field(pattern=r"^[a-z][a-z0-9._-]{0,62}$", description="The stable name that clients call; default: the name."),
    ]
    dataset: DatasetSpec
    training: Annotated[tuple[Candidate, ...], Field(min_length=1, strict=False)] = (Candidate(provider="local"),)
    benchmark: BenchmarkSpec
    gate: GateSpec = GateSpec()
    safety: Annotated[
        SafetySpec | None, Field(description="What it must refuse and must not; left out: it is not asked.")
    ] = None
    budget_usd: Annotated[
        Dollars | None,
        Field(description="Most US dollars that one training may cost, by the high end of its estimate."),
    ] = None
    allow: Annotated[
        tuple[Allow, ...], Field(strict=False, description="Rules that let this agent pass (gitune's docs/rules.md).")
    ] = ()

    @property
    def file(self) -> Path:
        return self.folder / "agent.yaml"


NO_AGENT = Problem("agents", 0, "no agent here", "gitune new AGENT --from FILE makes one")
"""Nothing to train or deploy. What `gitune init` writes has none yet, and no file of it is wrong."""


def agent_schema() -> dict[str, Any]:
    """JSON Schema of agent.yaml (draft 2020-12)."""
    schema = AgentSpec.model_json_schema()
    schema["required"] = [name for name in schema["required"] if name != "alias"]  # it defaults to the folder's name
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "agent.yaml"}


def load_agents(root: Path) -> tuple[AgentSpec, ...]:
    """All agents below `root`/agents, by name. Raises InvalidInput with every problem of every agent."""
    specs, problems = read_agents(root)
    if problems:
        raise InvalidInput(problems)
    return specs


def read_agents(
    root: Path, edited: Mapping[str, bytes] | None = None
) -> tuple[tuple[AgentSpec, ...], tuple[Problem, ...]]:
    """The agents that could be read, and what is wrong with the others.

    `edited` maps agents to an agent.yaml that is not written yet, read in place of the file.
    """
    from gitune.spec_checks import check_agents

    folder = root / "agents"
    if not folder.is_dir():
        return (), (Problem("agents", 0, "no such folder", "run gitune in a repository that has an agents/ folder"),)
    specs: list[AgentSpec] = []
    problems: list[Problem] = []
    for entry in sorted(folder.iterdir()):
        if not entry.is_dir() or entry.name.startswith((".", "_")):
            continue
        spec, found = _read_agent(entry, root, (edited or {}).get(entry.name))
        problems += found
        if spec is not None:
            specs.append(spec)
    if not specs and not problems:
        problems.append(NO_AGENT)
    problems += check_agents(specs, root)
    return tuple(specs), tuple(problems)


def _read_agent(folder: Path, root: Path, edited: bytes | None) -> tuple[AgentSpec | None, list[Problem]]:
    from gitune.spec_checks import check_agent

    path = folder / "agent.yaml"
    shown = path.relative_to(root).as_posix()
    if not path.is_file():
        hint = "add agent.yaml, or rename the folder to start with '_'"
        return None, [Problem(folder.relative_to(root).as_posix(), 0, "an agent's folder without agent.yaml", hint)]
    problems: list[Problem] = []
    if not AGENT_NAME.fullmatch(folder.name):
        hint = "use 2 to 40 of a-z 0-9 - _, starting with a letter and not ending with - or _"
        problems.append(Problem(shown, 0, f"bad agent name '{folder.name}' (the folder is the name)", hint))
    if path.resolve() != root.resolve() / shown:
        return None, [*problems, Problem(shown, 0, "agent.yaml must not be a symbolic link")]
    if path.stat().st_size > MAX_SPEC_BYTES:
        return None, [*problems, Problem(shown, 0, "agent.yaml is larger than 1 MB", "examples belong into data files")]
    source = parse_yaml(path.read_bytes() if edited is None else edited, shown)
    if source.problems:
        return None, [*problems, *source.problems]
    if not isinstance(source.data, dict):
        return None, [*problems, source.problem((), "must be a mapping of keys to values")]
    for key, hint in (("name", "the folder is the name: remove it"), ("folder", "remove it")):
        if key in source.data:
            problems.append(source.problem((key,), f"unknown key '{key}'", hint))
    alias = "unnamed" if problems else folder.name  # a bad name is one problem, not two
    data = {"alias": alias, **source.data, "name": folder.name, "folder": folder}
    spec, found = validated(AgentSpec, data, source, lambda loc: loc)
    problems += found
    if spec is not None:
        problems += check_agent(spec, source, root)
    return (spec if not problems else None), problems
