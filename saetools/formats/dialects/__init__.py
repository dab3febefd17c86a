"""Formats of other tools, one file each; the file's name is what `--to` and `format=` take."""
