"""The Pulumi program: one Agent for each folder below agents/. The only place that registers resources."""

import pulumi

from gitune.project import Project, find_root
from gitune.resources.agent import Agent
from gitune.spec import load_agents

project = Project.open(pulumi.get_stack(), find_root())
for spec in load_agents(project.root):
    Agent(spec, project)
