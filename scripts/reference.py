"""Writes docs/reference from the code: `python scripts/reference.py`. A test fails when they differ."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import click

from gitune import errors, refusals
from gitune.allow_spec import Rule
from gitune.commands import COMMANDS, cli
from gitune.providers import PROVIDERS, provider_class
from gitune.providers.base import ProviderClass
from gitune.providers.settings import HttpSettings, ProviderSettings
from gitune.spec import agent_schema
from gitune.stack_spec import StackSpec

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
WIDTH = 100
_MADE = "<!-- Made by scripts/reference.py from the code. -->\n"


def pages() -> dict[str, str]:
    """Every file of docs/reference, by name."""
    return {
        "agent.schema.json": json.dumps(agent_schema(), indent=2) + "\n",
        "agent-yaml.md": "\n".join(_agent_yaml()),
        "stack-yaml.md": "\n".join(_stack_yaml()),
        "cli.md": "\n".join(_command_line()),
        "errors.md": "\n".join(_errors()),
    }


def _command_line() -> Iterator[str]:
    yield f"{_MADE}# Command line\n"
    yield "What `--help` says of every command. `GITUNE_STACK` names the stack where `--stack` is left out.\n"
    with _context(cli, "gitune") as top:
        yield f"```\n{cli.get_help(top)}\n```\n"
        for name in COMMANDS:
            command = cli.get_command(top, name)
            assert command is not None
            yield from _help(command, name, top)


def _help(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    with _context(command, name, parent) as context:
        yield f"## {context.command_path}\n"
        yield f"```\n{command.get_help(context)}\n```\n"
        if isinstance(command, click.Group):
            for part in command.list_commands(context):
                inner = command.get_command(context, part)
                assert inner is not None
                yield from _help(inner, part, context)


def _context(command: click.Command, name: str, parent: click.Context | None = None) -> click.Context:
    return click.Context(command, parent, name, terminal_width=WIDTH, **command.context_settings)


def _agent_yaml() -> Iterator[str]:
    schema = agent_schema()
    yield f"{_MADE}# agent.yaml\n"
    yield "Every key. A key that is not here is an error with its line. `gitune schema` prints the same as a"
    yield "[JSON Schema](agent.schema.json) for editors: put this line first.\n"
    yield "```yaml\n# yaml-language-server: $schema=../../docs/reference/agent.schema.json\n```\n"
    yield from _tables("The file", schema, schema["$defs"])
    yield "## What each provider takes where `training` is silent\n"
    yield "A change of these is a change of training keys, and stands in the changelog under **Retrains**.\n"
    yield "| provider | base model | hyperparameters |\n|---|---|---|"
    for name, provider in _providers():
        values = ", ".join(f"`{key}: {json.dumps(value)}`" for key, value in provider.defaults.hyperparameters.items())
        yield f"| `{name}` | `{provider.defaults.base_model}` | {values} |"
    yield ""


def _providers() -> list[tuple[str, ProviderClass]]:
    return [(name, provider_class(name)) for name in sorted(PROVIDERS)]


def _stack_yaml() -> Iterator[str]:
    schema = StackSpec.model_json_schema()
    keys = schema["properties"].items()
    schema["properties"] = {f"gitune:{key}": value for key, value in keys if key not in ("name", "providers")}
    schema["required"] = []
    yield f"{_MADE}# Pulumi.STACK.yaml\n"
    yield "Every key below `config:` that gitune reads; the others are the Pulumi engine's.\n"
    yield from _tables("config", schema, schema["$defs"])
    yield "## gitune:providers\n"
    yield "A block for each provider, by its name. Credentials never stand here: they come from the environment.\n"
    every = ProviderSettings.model_json_schema()
    yield from _tables("Every provider", every, every["$defs"])
    yield from _own_keys("Those with an address", HttpSettings, ProviderSettings)
    for name, provider in _providers():
        common = HttpSettings if issubclass(provider.settings, HttpSettings) else ProviderSettings
        yield from _own_keys(name, provider.settings, common)


def _own_keys(title: str, settings: type[ProviderSettings], common: type[ProviderSettings]) -> Iterator[str]:
    """What these settings have beside the common ones."""
    schema = settings.model_json_schema()
    schema["properties"] = {key: value for key, value in schema["properties"].items() if key not in common.model_fields}
    if schema["properties"]:
        yield f"## {title}\n"
        yield from _table(schema, schema["$defs"])


def _tables(title: str, schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    """A table for the object, then one for each kind of object that it leads to, each once."""
    waiting, seen = [(title, schema)], {title}
    while waiting:
        name, found = waiting.pop(0)
        yield f"## {name}\n"
        if found.get("description"):
            yield f"{_cell(found['description'])}\n"
        yield from _table(found, definitions)
        for kind in _kinds(found):
            if kind not in seen and _object(definitions[kind]).get("properties"):
                seen.add(kind)
                waiting.append((kind, _object(definitions[kind])))


def _table(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    yield "| key | value | left out | means |\n|---|---|---|---|"
    for key, value in schema["properties"].items():
        yield (
            f"| `{key}` | {_value(value, definitions)} | {_default(key, value, schema)} |"
            f" {_cell(value.get('description') or definitions.get(_only_kind(value), {}).get('description', ''))} |"
        )
    yield ""


def _default(key: str, value: dict[str, Any], schema: dict[str, Any]) -> str:
    if key in schema.get("required", ()):
        return "**required**"
    default = value.get("default")
    if default in (None, "", [], {}) or isinstance(default, dict):
        return ""
    if isinstance(default, list) and isinstance(default[0], dict):
        return f"`provider: {default[0]['provider']}`" if "provider" in default[0] else ""
    return f"`{json.dumps(default)}`"


def _value(value: dict[str, Any], definitions: dict[str, Any]) -> str:
    """What may stand there, in words; null is left out, as it means left out."""
    if "$ref" in value:
        kind = value["$ref"].rpartition("/")[2]
        if "anyOf" in definitions[kind]:
            forms = (_value(form, definitions) for form in definitions[kind]["anyOf"] if "properties" not in form)
            return f"{', '.join(forms)}, or [{kind}](#{kind.lower()})"
        return f"[{kind}](#{kind.lower()})" if definitions[kind].get("properties") else "`{}`"
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(_value(one, definitions) for one in value["anyOf"] if one != {"type": "null"}))
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    if value.get("type") == "array":
        items = value.get("items") or value["prefixItems"][0]
        return f"list of {_value(items, definitions)}"
    if value.get("type") == "object":
        names = value.get("propertyNames", {}).get("enum", ())
        by = f"by {', '.join(f'`{name}`' for name in names)}" if names else "by name"
        return f"{by}: {_value(value['additionalProperties'], definitions)}"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true`, `false`"}
    return f"{'date' if value.get('format') == 'date' else words.get(value.get('type', ''), 'any')}{_range(value)}"


def _range(value: dict[str, Any]) -> str:
    low, high = value.get("minimum"), value.get("maximum")
    if low is not None and high is not None:
        return f", {low:,} to {high:,}"
    if value.get("exclusiveMinimum") is not None:
        return f", above {value['exclusiveMinimum']}" + (f" to {high:,}" if high is not None else "")
    return f", {low:,} or more" if low is not None else f", at most {high:,}" if high is not None else ""


def _kinds(schema: dict[str, Any]) -> list[str]:
    """Names of the objects that its keys lead to, in their order."""
    return re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema["properties"]))


def _only_kind(value: dict[str, Any]) -> str:
    kinds = re.findall(r'"#/\$defs/(\w+)"', json.dumps(value))
    return kinds[0] if len(kinds) == 1 else ""


def _object(definition: dict[str, Any]) -> dict[str, Any]:
    """The object among the forms of a definition: a scorer may be a name or an object."""
    return next((one for one in definition.get("anyOf", ()) if "properties" in one), definition)


def _errors() -> Iterator[str]:
    yield f"{_MADE}# Errors, exit codes and rules\n"
    yield "An error is one line on standard error, and `hint:` with what to do next.\n"
    yield "| exit code | means |\n|---|---|\n| 0 | done |"
    yield f"| {errors.EXIT_USER} | yours to mend: wrong input, a rule that refuses, a provider that says no |"
    yield f"| {errors.EXIT_DRIFT} | `gitune drift` found drift |"
    yield f"| {errors.EXIT_BUG} | a bug of gitune: the traceback is in `.gitune/crash.log` |"
    yield f"| {errors.EXIT_INTERRUPTED} | Ctrl-C: jobs go on |\n"
    yield "## Errors\n\nThe class alone decides what happens next ([errors.py](../../infra/gitune/errors.py)).\n"
    tree = re.search(r"^    GituneError\n(?:    .*\n)+", errors.__doc__ or "", re.MULTILINE)
    assert tree is not None
    yield f"```\n{re.sub('^    ', '', tree[0], flags=re.MULTILINE)}```\n"
    yield "| error | means |\n|---|---|"
    for one in _descendants(errors.GituneError):
        yield f"| `{one.__name__}` | {_cell(one.__doc__ or '')} |"
    yield "\n## Rules that refuse\n"
    yield "[How they are asked, and how to say that it is meant](../rules.md).\n"
    yield "| rule | refuses |\n|---|---|"
    for rule in get_args(Rule):
        yield f"| `{rule}` | {_cell(getattr(refusals, rule.replace('-', '_')).__doc__)} |"
    yield ""


def _descendants(error: type[Exception]) -> Iterator[type[Exception]]:
    yield error
    for one in error.__subclasses__():
        if one.__module__ == errors.__name__:
            yield from _descendants(one)


def _cell(text: str) -> str:
    """One line of a Markdown table."""
    line = " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"\{(\w+)\}", r"`{\1}`", line)


if __name__ == "__main__":
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
