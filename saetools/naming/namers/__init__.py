"""Namers, one file each; the file name is the `type` in a config."""
