"""Runs the verbs that parse plain arguments instead of a configuration: `report` and `dashboard`."""

import argparse
import sys
from importlib import import_module

from simcse_lit.cli.verbs import about
from simcse_lit.config.hydra_words import explain


def run(verb: str) -> None:
    """Parse the arguments of this process, then import the verb's file and call its `main` with them.

    The exit status is 1, with a message on standard error, for a mistake that the user can fix, and 2 for wrong arguments.
    """
    parser = argparse.ArgumentParser(
        prog=f"simcse-lit {verb}", description=about(verb), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if verb == "report":
        parser.add_argument("folder", help="a run folder, or a folder of run folders such as a sweep")
        parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="see above")
    else:
        parser.add_argument("project", metavar="ENTITY/PROJECT", help="W&B project of the runs")
        parser.add_argument("--by", metavar="KEY", help="key whose values are compared, e.g. loss.temperature")
        parser.add_argument("--dry-run", action="store_true", help="print what would be created, and send nothing")
    words = sys.argv[1:]
    for word in words:
        if verb == "report" and word.startswith("folder="):  # the form of the other verbs
            words = [word.removeprefix("folder="), *(other for other in words if other != word)]
    given = vars(parser.parse_args(words))
    try:
        import_module(f"simcse_lit.{verb}").main(**given)
    except Exception as error:
        message = explain(error, verb)
        if message is None:
            raise
        print(f"\nError: {message}", file=sys.stderr)
        sys.exit(1)
