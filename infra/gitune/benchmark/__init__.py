"""Held-out cases → scores of challenger and baseline → verdict."""
