"""The erasers, one file each; the file's name is the eraser's name."""
