"""gitune new"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast, get_args

import click

from gitune.commands import json_option, program_name
from gitune.commands.questions import Ask, asks, yes_option
from gitune.spec import RuleId, Severity

if TYPE_CHECKING:
    from gitune.new_agent.proposal import Proposal, Wishes


@click.command("new")
@click.argument("agent")
@click.option("--from", "source", metavar="FILE", help="Examples: CSV, TSV, JSON, JSON lines or Parquet; also a URL.")
@click.option("--question", metavar="COLUMN", help="Column that is asked, or a template such as '{title}: {text}'.")
@click.option("--answer", "--label", metavar="COLUMN", help="Column that is the right answer, or a template.")
@click.option("--system", metavar="TEXT", help="System message: plain text, a column or a template.")
@click.option("--scorer", help="How an answer is scored, such as exact, number, json_fields or f1.")
@click.option("--cases", type=click.IntRange(min=1), help="How many questions are held back for the benchmark.")
@click.option("--examples", type=click.IntRange(min=1), help="How many examples are trained on.  [default: all]")
@click.option("--validation", type=click.FloatRange(0, 0.5), help="Share held back to follow the loss, 0 to 0.5.")
@click.option(
    "--provider", "providers", multiple=True, default=("local",), show_default=True, help="Trains it; repeatable."
)
@click.option("--alias", help="The name that clients call.  [default: the agent's]")
@click.option("--description", help="What the agent does, in a line.")
@click.option("--licence", help="Of the examples, such as CC-BY-4.0.")
@click.option("--rule", "rules", multiple=True, metavar="RULE=ACTION", help="Such as email=drop; repeatable.")
@click.option("--link", is_flag=True, help="Leave the file where it is, instead of copying it into the agent's folder.")
@click.option(
    "-s", "--stack", default="training", show_default=True, envvar="GITUNE_STACK", help="Its settings are checked with."
)
@yes_option
@json_option
def command(
    agent: str,
    source: str | None,
    question: str | None,
    answer: str | None,
    system: str | None,
    scorer: str | None,
    cases: int | None,
    examples: int | None,
    validation: float | None,
    providers: tuple[str, ...],
    alias: str | None,
    description: str | None,
    licence: str | None,
    rules: tuple[str, ...],
    link: bool,
    stack: str,
    yes: bool,
    as_json: bool,
) -> None:
    """Make AGENT from a file of examples: its columns, scorer and split proposed, a benchmark cut off.

    All is checked before anything is written; then the folder agents/AGENT is there as a whole. Trains nothing.
    """
    from dataclasses import replace

    from gitune.errors import UserError
    from gitune.new_agent.columns import guess_columns, known_format, propose_shape
    from gitune.new_agent.folder import check_link, check_wishes, write_agent
    from gitune.new_agent.proposal import Wishes, propose, read_examples
    from gitune.new_agent.reading import read_table
    from gitune.project import Project
    from gitune.report.new_agent import new_agent_facts, new_agent_lines

    project = Project.open(stack)
    project = replace(project, stack=project.stack.model_copy(update={"provider": None}))  # each candidate is checked
    wishes = Wishes(
        agent, alias, description, licence, scorer, cases, examples, validation, providers, _severities(rules), link
    )
    check_wishes(wishes, project)
    asking = asks(yes or as_json)
    if source is None and asking:
        source = asking("File of examples (CSV, TSV, JSON lines, JSON, Parquet)?", "")
    if not source:
        raise UserError("no examples to make an agent of", hint="--from FILE: a question and its answer on each row")
    table = read_table(source, project.root)
    if asking and (question or answer or not known_format(table)):
        listed = ", ".join(table.columns)
        question = question or asking(
            f"Column of the question, of {listed}?", guess_columns(table, None, answer)[0] or ""
        )
        answer = answer or asking(f"Column of the answer, of {listed}?", guess_columns(table, question, None)[1] or "")
        system = system or asking("System message (empty: none)?", "") or None
    shape = propose_shape(table, question or None, answer or None, system)
    if link:
        check_link(table, project.root, system, shape)
    read = read_examples(table, shape, system)
    proposal = propose(wishes, table, shape, read)
    if asking:
        proposal = propose(_asked(asking, proposal), table, shape, read)
        if asking(f"Write agents/{agent}?", "yes").casefold() not in ("yes", "y"):
            click.echo("nothing was written", err=True)
            return
    warned = write_agent(proposal, project)
    if as_json:
        click.echo(json.dumps(new_agent_facts(proposal, warned, program_name()), indent=2, ensure_ascii=False))
        return
    for line in new_agent_lines(proposal, warned, program_name()):
        click.echo(line)


def _severities(rules: tuple[str, ...]) -> dict[RuleId, Severity]:
    found: dict[RuleId, Severity] = {}
    for rule in rules:
        name, _, severity = rule.partition("=")
        if name not in get_args(RuleId) or severity not in get_args(Severity):
            known = f"RULE: {', '.join(get_args(RuleId))}; ACTION: {', '.join(get_args(Severity))}"
            raise click.BadParameter(f"'{rule}' is not RULE=ACTION ({known})", param_hint="--rule")
        found[cast("RuleId", name)] = cast("Severity", severity)
    return found


def _asked(asking: Ask, proposal: Proposal) -> Wishes:
    """Scorer and cases as the user wants them, unless flags said so. Raises UserError."""
    from dataclasses import replace

    from gitune.errors import UserError

    wishes, scoring, cut = proposal.wishes, proposal.scoring, proposal.cut
    scorer = wishes.scorer or asking(f"Scorer ({scoring.reason})?", scoring.scorer)
    if wishes.cases is not None:
        return replace(wishes, scorer=scorer)
    cases = asking(f"Questions held back for the benchmark, of {proposal.questions}?", str(len(cut.cases)))
    if not cases.isdecimal() or not int(cases):
        raise UserError(f"'{cases}' is no number of questions", hint="write a whole number, 1 or more")
    return replace(wishes, scorer=scorer, cases=int(cases))
