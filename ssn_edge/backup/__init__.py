"""A device in one file: what makes it decide as it does, and nothing that it can make again."""
