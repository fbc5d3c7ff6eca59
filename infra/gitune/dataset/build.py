"""An agent's dataset: sources → index → choice → rules → split. The choice is made again without what rules drop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gitune.dataset.chat import Example
from gitune.dataset.index import Index, build_index
from gitune.dataset.lengths import counting, length_limit
from gitune.dataset.mix import Choice, Wish, choose
from gitune.dataset.resolve import inputs_of
from gitune.dataset.ring import Record
from gitune.dataset.rules import DEFAULTS, Cleaned, Finding, Settings, apply
from gitune.dataset.split import split_examples
from gitune.dataset.weights import lines_and_weights, refused_weights, repeated
from gitune.errors import InvalidInput, Problem
from gitune.hashing import sha256
from gitune.spec import AgentSpec, RuleId, read_agents

_DUPLICATES: RuleId = "exact-duplicate"


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """One file that examples came from."""

    agent: str
    file: str
    format: str
    examples: int
    """In the file, repeats included."""
    licence: str | None
    sha256: str | None
    """Of a remote file's content."""


@dataclass(frozen=True, slots=True)
class Assembled:
    """What an agent trains on, and how it came about."""

    examples: tuple[Example, ...]
    choice: Choice
    findings: tuple[Finding, ...]
    """Of the rules; those of dropped examples name the example."""
    sources: tuple[SourceFacts, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Canonical lines in hash order, so neither the order of sources nor of keys changes the fingerprint."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    fingerprint: str
    assembled: Assembled
    """Where it came from, and what the rules found."""


def build_dataset(spec: AgentSpec, root: Path) -> Dataset:
    """Read, validate, choose and split an agent's examples. Raises InvalidInput with every bad line."""
    return finish(spec, assemble(spec, root))


def finish(spec: AgentSpec, assembled: Assembled) -> Dataset:
    """Split what was assembled, and apply weights to what is trained on. Raises InvalidInput if there are problems."""
    if assembled.problems:
        raise InvalidInput(assembled.problems)
    settings = spec.dataset
    if settings.weights == "sample":
        weights = lines_and_weights(assembled.examples)
        train, validation = split_examples(weights, settings.validation, settings.seed)
        train = repeated(train, weights, settings.seed)
    else:
        lines = [example.canonical() for example in assembled.examples]
        train, validation = split_examples(lines, settings.validation, settings.seed)
    fingerprint = sha256(["train", *train, "validation", *validation])
    return Dataset(train, validation, fingerprint, assembled)


def assemble(spec: AgentSpec, root: Path) -> Assembled:
    """The examples of an agent. What is wrong is in `problems`; nothing is written but downloads of remote sources."""
    agents = _mixed_agents(spec, root)
    stratify_by = spec.dataset.stratify_by or ""
    inputs = [item for agent in agents for item in inputs_of(agent, root, stratify_by=stratify_by)]
    index = build_index(inputs)
    facts = _facts(index)
    nothing = Choice((), ())
    if index.problems:
        return Assembled((), nothing, (), facts, tuple(index.problems))
    wish = Wish(spec.name, spec.dataset.examples, spec.dataset.mix, spec.dataset.seed)
    settings = _settings(spec, root)
    repeats = _repeats(index, settings)
    choice, cleaned = _choose_clean(index, wish, spec, root, settings)
    examples = cleaned.kept
    if settings.severities.get(_DUPLICATES, DEFAULTS[_DUPLICATES]) in ("warn", "off"):
        examples = (*examples, *_kept_repeats(index, wish))
    problems = [*Cleaned((), repeats).problems(), *cleaned.problems()]
    if spec.dataset.weights == "error":
        problems += refused_weights(examples)
    if not any(example.weight for example in examples) and not problems:
        file = spec.file.relative_to(root).as_posix()
        problems.append(Problem(file, 0, "no example is left after the rules, or the mix allows none"))
    return Assembled(examples, choice, (*repeats, *cleaned.findings), facts, tuple(problems))


def _mixed_agents(spec: AgentSpec, root: Path) -> list[AgentSpec]:
    """The agents whose sources are needed, the agent itself first only where it gives something."""
    if not spec.dataset.mix:
        return [spec]
    known, problems = read_agents(root)
    found = {agent.name: agent for agent in known} | {spec.name: spec}
    missing = sorted(set(spec.dataset.mix) - set(found))
    if missing:
        raise InvalidInput(problems or [Problem(f"agents/{missing[0]}", 0, "no such agent")])
    return [found[name] for name in sorted(spec.dataset.mix)]


def _choose_clean(index: Index, wish: Wish, spec: AgentSpec, root: Path, settings: Settings) -> tuple[Choice, Cleaned]:
    """The choice that no rule takes anything from.

    Rules judge what is chosen, because only that is trained on: a sample of 5,000 out of ten million is clean after
    5,000 looks. What they drop is left out and the choice is made again. Each round leaves more out, so it ends.
    """
    from gitune.benchmark.cases import known_cases

    cases = known_cases(spec, root)
    without: dict[bytes, Record] = {}
    dropped: list[Finding] = []
    at_hand: dict[bytes, Example] = {}
    while True:
        choice = choose(index, wish, without.values())
        at_hand.update(index.fetch(record for record in choice.records if record.place not in at_hand))
        places = {record.place: record for record in choice.records}
        cleaned = apply(_in_order(at_hand[place] for place in places), cases, settings)
        gone = [finding for finding in cleaned.findings if finding.dropped]
        if not gone or wish.takes_all:
            findings = (*dropped, *cleaned.findings)
            return choice, Cleaned(cleaned.kept, tuple(dict.fromkeys(findings)))
        dropped += gone
        kept = {id(example) for example in cleaned.kept}
        without.update({place: record for place, record in places.items() if id(at_hand[place]) not in kept})


def _in_order(examples: Iterable[Example]) -> list[Example]:
    """By file and line, so that of two repeats the first is kept, as a reader expects."""
    return sorted(examples, key=lambda example: (example.file, example.line))


def _repeats(index: Index, settings: Settings) -> tuple[Finding, ...]:
    """Equal examples of one agent's sources: found while indexing, so the rule itself sees only the chosen ones."""
    severity = settings.severities.get(_DUPLICATES, DEFAULTS[_DUPLICATES])
    drop, hint = severity == "drop", "keep one of them"
    return tuple(
        Finding(_DUPLICATES, severity, file, line, f"the same example as {other}:{other_line}", hint, drop)
        for file, line, other, other_line in (index.repeats() if severity != "off" else ())
    )


def _kept_repeats(index: Index, wish: Wish) -> Sequence[Example]:
    """Where repeats are allowed and all examples are taken, they stay."""
    if not wish.takes_all:
        return ()
    found = []
    for again, _ in index.rings.repeats():
        (example,) = index.fetch([again]).values()
        found.append(example)
    return found


def _settings(spec: AgentSpec, root: Path) -> Settings:
    from gitune.benchmark.cases import shown_cases

    severities = spec.dataset.rules
    limit = length_limit(spec)
    exact = severities.get("too-long", DEFAULTS["too-long"]) == "drop"
    return Settings(
        severities=severities,
        language=spec.dataset.language,
        max_tokens=limit.tokens if limit else None,
        count_tokens=counting(limit, exact=exact) if limit else None,
        cases_file=shown_cases(spec, root),
    )


def _facts(index: Index) -> tuple[SourceFacts, ...]:
    return tuple(
        SourceFacts(
            item.reader.source,
            item.file.shown,
            "columns" if item.reader.columns else item.reader.format,
            index.counts[number],
            item.licence,
            item.sha256,
        )
        for number, item in enumerate(index.inputs)
    )
