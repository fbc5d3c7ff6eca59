"""gitune passport"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gitune.commands import stack_option
from gitune.commands.words import complete_agents

if TYPE_CHECKING:
    from gitune.passport import Passport


@click.command("passport")
@click.argument("agent", shell_complete=complete_agents)
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "model-card", "ml-bom"]),
    default="json",
    show_default=True,
    help="The passport itself, a Hugging Face model card, or a CycloneDX ML-BOM.",
)
@stack_option
def command(agent: str, form: str, stack: str) -> None:
    """Print where an agent's locked model came from."""
    from gitune.passport import named_passport
    from gitune.project import Project

    sha256, passport = named_passport(Project.open(stack).lock_file(agent), agent)
    click.echo(_exported(passport, sha256, form), nl=False)


def _exported(passport: Passport, sha256: str, form: str) -> str:
    from gitune.errors import UserError
    from gitune.passport import passport_text

    try:
        if form == "model-card":
            from gitune.report.model_card import model_card

            return model_card(passport, sha256)
        if form == "ml-bom":
            from gitune.report.ml_bom import ml_bom

            return ml_bom(passport, sha256)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("cyclonedx", "huggingface_hub", "jsonschema"):
            raise
        raise UserError(f"a {form} needs {error.name}", hint="pip install 'gitune[passport]'") from error
    return passport_text(passport)
