"""The command line: one file a command, over the same functions that a notebook calls."""

__all__: list[str] = []
