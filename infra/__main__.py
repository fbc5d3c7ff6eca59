"""The Pulumi program: what the folders below agents/ declare in this stack. The only place that registers resources."""

import pulumi

from gitune.project import Project
from gitune.resources.agents import declare_agents
from gitune.root import find_root
from gitune.spec import load_agents

project = Project.open(pulumi.get_stack(), find_root())
declare_agents(load_agents(project.root), project)
