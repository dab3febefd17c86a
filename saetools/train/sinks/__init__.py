"""Where rows of training figures go, one file each; the file's name is what `log_to` calls it."""
