"""`python -m simcse_lit VERB ...` is `simcse-lit VERB ...`."""

from simcse_lit.cli.cli import main

if __name__ == "__main__":
    main()
