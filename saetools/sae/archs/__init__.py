"""Architectures, one file each; the file's name is the architecture's name everywhere."""
