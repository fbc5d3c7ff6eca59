"""gitune doctor"""

from __future__ import annotations

import json

import click

from gitune.commands import json_option, stack_option


@click.command("doctor")
@stack_option
@json_option
@click.option("--offline", is_flag=True, help="Ask nobody outside this machine: no backend, provider, store or GitHub.")
def command(stack: str, as_json: bool, offline: bool) -> int:
    """Check machine, repository, backend, providers and GitHub, and say how to mend each. Changes nothing.

    Exits with 1 where there is a problem; a warning, or what could not be checked, is none.
    """
    from gitune.doctor.finding import Setting
    from gitune.doctor.run import examine
    from gitune.project import find_root
    from gitune.report.doctor import print_findings

    findings = examine(Setting(find_root(), stack, not offline))
    if not as_json:
        return 1 if print_findings(findings) else 0
    told = list(findings)
    click.echo(json.dumps([finding.as_dict() for finding in told], indent=2, ensure_ascii=False))
    return 1 if any(finding.state == "problem" for finding in told) else 0
