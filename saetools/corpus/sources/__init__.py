"""Places that documents come from, one file each; the file name is the `type` in a config."""
