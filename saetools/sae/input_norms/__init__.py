"""Ways to normalise a token before it is encoded, one file each, named as in config.json."""
