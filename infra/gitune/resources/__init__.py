"""Pulumi lifecycles, and nothing else: this is the only package that imports pulumi's resource model."""
