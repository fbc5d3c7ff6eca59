"""Renderings of what gitune knows: for a terminal, and later for Markdown and HTML."""
