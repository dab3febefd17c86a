"""`python -m saetools`: the same as the `saetools` command."""

from saetools.cli.app import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
