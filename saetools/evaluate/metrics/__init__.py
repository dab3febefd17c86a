"""Metrics, one file each; the file's name is the metric's name everywhere."""
