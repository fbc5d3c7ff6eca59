"""gitune: fine-tuned agents as code."""

__version__ = "0.1.0"
