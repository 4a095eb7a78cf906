"""The site: it is built without a warning and without a network, all links in it lead somewhere, and no page is left out."""

import os
import subprocess
import sys
from fnmatch import fnmatch
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from tests.conftest import LIMIT_S, ROOT

ELSEWHERE = ("http:", "https:", "//")
LOADED = {"script": "src", "img": "src", "source": "src", "iframe": "src", "video": "src", "audio": "src"}
RELATIONS = ("stylesheet", "icon", "preload", "modulepreload", "manifest")  # of a <link> whose file a browser loads


class Page(HTMLParser):
    """What a page of the site refers to.

    Args:
        text: its HTML.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag in LOADED and found.get(LOADED[tag]):
            self.loaded.append(found[LOADED[tag]])
        if tag == "link" and found.get("rel", "").split(" ")[-1] in RELATIONS:
            self.loaded.append(found["href"])


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "--conf-dir", "docs"),
            *("--doctree-dir", str(folder / "doctrees"), ".", str(folder / "html")),
        ],
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "html"


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[Path, Page]:
    return {
        path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html")) if "_static" not in path.parts
    }


def test_the_site_is_built_with_a_search_index(site: Path) -> None:
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert "docs/reference/configuration" in index and "docs/index" in index
    assert (site / "search.html").is_file() and (site / "docs" / "index.html").is_file()


def test_a_page_loads_nothing_from_another_host(pages: dict[Path, Page]) -> None:
    loaded = {(path.name, name) for path, page in pages.items() for name in page.loaded if name.startswith(ELSEWHERE)}
    assert not loaded


def test_a_style_loads_nothing_from_another_host(site: Path) -> None:
    for path in site.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        assert "url(http" not in text and "url(//" not in text and "@import" not in text, path


def test_every_file_that_a_page_loads_exists(site: Path, pages: dict[Path, Page]) -> None:
    missing = {
        (str(path.relative_to(site)), name)
        for path, page in pages.items()
        for name in page.loaded
        if not name.startswith(("data:", *ELSEWHERE)) and not (path.parent / unquote(urlsplit(name).path)).is_file()
    }
    assert not missing


def test_every_link_and_anchor_leads_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    broken = set()
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            known = pages.get(target)
            anchor = unquote(parts.fragment)
            if not target.is_file() or (anchor and known is not None and anchor not in known.ids):
                broken.add((str(path.relative_to(site)), link))
    assert not broken


def test_every_document_has_its_line_in_the_table_of_contents() -> None:
    def entries(node: object) -> list[str]:
        if isinstance(node, dict):
            own = [str(node[key]) for key in ("root", "file", "glob") if key in node]
            return own + [each for value in node.values() for each in entries(value)]
        return [each for value in node for each in entries(value)] if isinstance(node, list) else []

    listed = entries(yaml.safe_load((ROOT / "docs" / "toc.yml").read_text(encoding="utf-8")))
    documents = [path for suffix in ("md", "ipynb") for path in (ROOT / "docs").rglob(f"*.{suffix}")]
    names = {
        path.relative_to(ROOT).with_suffix("").as_posix() for path in documents if ".ipynb_checkpoints" not in path.parts
    }
    assert not {name for name in names if not any(fnmatch(name, each) for each in listed)}
    assert not [each for each in listed if not list(ROOT.glob(f"{each}.*"))]
    assert len(listed) == len(set(listed))
