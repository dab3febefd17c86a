"""Scorers, one a file; the file name is the name of the scorer."""
