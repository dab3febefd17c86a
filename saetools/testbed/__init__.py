"""Worlds in which the right answer is known, and how much of it was found."""

__all__: list[str] = []
