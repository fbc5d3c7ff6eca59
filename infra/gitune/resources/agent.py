"""The Agent component: what one folder below agents/ declares in a stack."""

from __future__ import annotations

import pulumi

from gitune.dataset import build_dataset
from gitune.deploy import Route
from gitune.lock import read_lock
from gitune.project import Project, training_requests
from gitune.resources.dataset import Dataset
from gitune.resources.deployment import Deployment
from gitune.resources.model import FineTunedModel
from gitune.spec import AgentSpec


class Agent(pulumi.ComponentResource):
    """Dataset and FineTunedModel where the stack declares models, Deployment where it declares deployments."""

    def __init__(self, spec: AgentSpec, project: Project) -> None:
        super().__init__("gitune:Agent", spec.name)
        below = pulumi.ResourceOptions(parent=self)
        stack = project.stack.name
        if "models" in project.stack.declare:
            built = build_dataset(spec, project.root)
            dataset = Dataset(spec.name, built, project, below)
            requests = training_requests(spec, project, built.fingerprint)
            after = pulumi.ResourceOptions(parent=self, depends_on=[dataset])
            FineTunedModel(spec.name, stack, built.fingerprint, len(built.train), requests, after)
        lock = read_lock(project.lock_file(spec.name))
        if "deployments" in project.stack.declare and lock is not None:
            route = Route(spec.name, lock.provider, lock.model_id, lock.version)
            Deployment(spec.name, stack, spec.alias, route, below)
        self.register_outputs({})
