"""What the agents declare in a stack: one FineTunedModel or Deployment each, and one Datasets for all of them.

A resource costs a stack of 1,000 agents some 5 ms of each pass and 3 kB of state, so there are no more of them; see
docs/decisions/0011-scale.md.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import pulumi

from gitune.checked import DatasetFacts, dataset_facts
from gitune.deploy import locked_route
from gitune.project import Project, training_requests
from gitune.resources.dataset import Datasets
from gitune.resources.deployment import Deployment
from gitune.resources.host import telling_the_engine
from gitune.resources.model import FineTunedModel
from gitune.round import ROUND_VARIABLE
from gitune.spec import AgentSpec


def declare_agents(specs: Sequence[AgentSpec], project: Project) -> None:
    """Models where the stack declares models, deployments of what is locked where it declares deployments.

    Raises UserError where a rule refuses.
    """
    _say_nothing_of_each_step()
    if ROUND_VARIABLE not in os.environ:  # gitune has judged the pass, where it has started the engine
        from gitune.preflight import refuse_by_hand  # much to import, and mostly not needed

        with telling_the_engine():
            refuse_by_hand(project, specs)
    if "models" in project.stack.declare:
        _declare_models(specs, dataset_facts(specs, project), project)
    if "deployments" in project.stack.declare:
        _declare_deployments(specs, project)


def _declare_models(specs: Sequence[AgentSpec], facts: Mapping[str, DatasetFacts], project: Project) -> None:
    datasets = Datasets({name: found.fingerprint for name, found in facts.items()}, project)
    for spec in specs:
        found = facts[spec.name]
        requests = training_requests(spec, project, found.fingerprint)
        options = pulumi.ResourceOptions(depends_on=[datasets], aliases=_aliases(spec))
        FineTunedModel(spec.name, project.stack.name, found.fingerprint, found.examples, requests, options)


def _declare_deployments(specs: Sequence[AgentSpec], project: Project) -> None:
    for spec in specs:
        route = locked_route(spec, project)
        if route is not None:
            options = pulumi.ResourceOptions(aliases=_aliases(spec))
            Deployment(spec.name, project.stack.name, spec.alias, route, project.stack.canary, options)


def _say_nothing_of_each_step() -> None:
    """The SDK tells the engine of its own steps, several for each resource, and waits for each answer: most of the
    program's time, for what is shown with `pulumi --debug` only."""
    pulumi.log.debug = lambda *_args, **_options: None


def _aliases(spec: AgentSpec) -> list[str | pulumi.Alias]:
    """Where the resource stood before 2026-11-23: below a component for each agent."""
    component = f"urn:pulumi:{pulumi.get_stack()}::{pulumi.get_project()}::gitune:Agent::{spec.name}"
    return [pulumi.Alias(parent=component)]
