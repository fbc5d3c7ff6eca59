"""The Pulumi engine: found, installed or built, and the environment that it runs in."""
