"""Runs `python -m simcse_lit VERB ...`, the same as `simcse-lit VERB ...`."""

from simcse_lit.cli.cli import main

if __name__ == "__main__":
    main()
