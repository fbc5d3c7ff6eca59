"""gitune drift"""

from __future__ import annotations

import json

import click

from gitune.commands import json_option, stack_option
from gitune.errors import EXIT_DRIFT


@click.command("drift")
@stack_option
@json_option
@click.option("--markdown", is_flag=True, help="Print Markdown, one section per agent, such as for an issue.")
def command(stack: str, as_json: bool, markdown: bool) -> int:
    """Find what providers and routes differ in from what is recorded and locked.

    Asks, and changes nothing. Exits with 2 when there is drift; a provider that does not answer is listed and is none.
    """
    from gitune.backend import recorded_deployment
    from gitune.drift import read_drift
    from gitune.project import Project
    from gitune.report.drift import drift_markdown, print_drift

    if as_json and markdown:
        raise click.UsageError("--json and --markdown exclude each other", click.get_current_context())
    project = Project.open(stack)
    findings = read_drift(project, recorded_deployment(project))
    if as_json:
        click.echo(json.dumps([finding.as_dict() for finding in findings], indent=2, ensure_ascii=False))
    elif markdown:
        click.echo(drift_markdown(findings, stack), nl=False)
    else:
        print_drift(findings, stack)
    return EXIT_DRIFT if any(finding.drift for finding in findings) else 0
