"""The Python that a page shows runs, from its first block to its last, in the folder where its commands run."""

from pathlib import Path

import pytest

from tests.conftest import Cli
from tests.docs.documents import DOCUMENTS, blocks
from tests.warm_start import ROOT

# docs/extending shows parts of examples/my_lab, which tests/test_docs.py compares; docs/reference names classes only.
ELSEWHERE = ("docs/extending", "docs/reference", "examples", "experiments", "CHANGELOG.md")


def script(page: Path) -> str:
    """All Python of a page."""
    return "\n\n".join(text for language, text in blocks(page.read_text(encoding="utf-8")) if language == "python")


PAGES = [page for page in DOCUMENTS if not str(page.relative_to(ROOT)).startswith(ELSEWHERE) and script(page)]


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_python_of_a_page_runs(page: Path, copied: Path, typed_module: Cli) -> None:
    (copied / "page.py").write_text(script(page), encoding="utf-8")
    done = typed_module("page")
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
