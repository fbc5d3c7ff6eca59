"""One OpenAI-compatible address for all aliases: request → route of its alias → the model behind it."""
