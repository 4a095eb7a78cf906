"""Makes docs/reference/commands.md, configuration.md and configuration/*.md from their sources.

The sources are the docstrings of the verbs, `conf/` with its comments, the types in `src/simcse_lit/config/schema.py`, and
the prose in groups.yaml. `commands.py` and `configuration.py` put the pages together; `keys.py` makes their tables of keys.

Run: python docs/reference/generate.py [--check]. With `--check` it writes nothing and fails if a page differs.
"""

import argparse
import sys
from pathlib import Path

from commands import PAGE, commands
from conf_files import ROOT
from configuration import group_pages, overview
from groups import FOLDER


def main() -> int:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if a page differs from its sources")
    check = parser.parse_args().check
    made = pages()
    differ = [path for path, text in made.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if check and differ:
        names = ", ".join(str(path.relative_to(ROOT)) for path in differ)
        print(f"Not what the sources say: {names}. Run: make reference", file=sys.stderr)
        return 1
    for path in differ:
        path.parent.mkdir(exist_ok=True)
        path.write_text(made[path], encoding="utf-8")
    return 0


def pages() -> dict[Path, str]:
    """Return every page that is generated, by its path."""
    return {PAGE: commands(), FOLDER / "configuration.md": overview(), **group_pages()}


if __name__ == "__main__":
    sys.exit(main())
