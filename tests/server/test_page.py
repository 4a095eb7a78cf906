"""The page in a real browser: upload, search, heat map, hostile sentences, and that it asks nobody but its server."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect

from simcse_lit.formats.loading import load_encoder
from simcse_lit.serve import _listen
from simcse_lit.server.app import create_app
from tests.server.served import config, raw_model, service_of

HOSTILE = [
    "<script>document.title = 'hacked'</script>",
    "<img src=x onerror=\"document.title = 'hacked'\">",
    "</td></ol><svg onload=\"document.title = 'hacked'\">",
]
CORPUS = ["A ship sails at dawn.", "It rains all day.", *HOSTILE]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    loaded = load_encoder(str(raw_model(tmp_path_factory.mktemp("raw"))), revision=None, pooler="avg", projection=None)
    served = config("corpus=null")
    service = service_of(loaded, served)
    listener = _listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(create_app(service, served), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    service.batcher.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    yield opened
    opened.close()


def test_a_corpus_is_uploaded_searched_and_compared_and_no_sentence_runs(page: Page, address: str, tmp_path: Path) -> None:
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    expect(page.locator("#corpus")).to_have_text("No corpus yet")
    (tmp_path / "corpus.txt").write_text("\n".join(CORPUS))
    page.get_by_text("Search another corpus").click()
    page.locator("#file").set_input_files(tmp_path / "corpus.txt")
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("#corpus")).to_have_text("corpus.txt · 5 sentences")

    page.locator("#query").fill(HOSTILE[0])
    page.keyboard.press("Enter")
    expect(page.locator("#hits li")).to_have_count(5)
    expect(page.locator("#hits .text").first).to_have_text(HOSTILE[0])
    expect(page.locator("#hits .score").first).to_have_text("1.000")
    scores = [float(text) for text in page.locator("#hits .score").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)

    page.locator("#sentences").fill("\n".join(CORPUS[1:]))
    page.get_by_role("button", name="Draw").click()
    expect(page.locator("#matrix td.cell")).to_have_count(16)
    expect(page.locator("#matrix th[scope=row]").nth(1)).to_have_text(f"2 {HOSTILE[0]}")
    cells = [float(text) for text in page.locator("#matrix td.cell").all_inner_texts()]
    assert cells[::5] == [1.0] * 4
    assert [cells[4 * i + j] for i in range(4) for j in range(4)] == [cells[4 * j + i] for i in range(4) for j in range(4)]

    ranked = sorted(cells, reverse=True)
    shades = page.locator("#matrix td.cell").evaluate_all("cells => cells.map((cell) => cell.style.background)")
    assert shades[::5] == [""] * 4  # a sentence with itself says nothing
    assert shades[cells.index(ranked[4])] != shades[cells.index(ranked[-1])]

    assert page.title() == "simcse-lit"
    assert page.locator("main script, main img, main svg").count() == 0
    assert said == []
    assert {url.split("/")[2] for url in asked if not url.startswith("blob:")} == {address.removeprefix("http://")}


def test_refusals_are_shown_and_a_phone_needs_no_sideways_scrolling(page: Page, address: str, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(address)
    (tmp_path / "bad.txt").write_bytes(b"caf\xe9")
    page.get_by_text("Search another corpus").click()
    page.locator("#file").set_input_files(tmp_path / "bad.txt")
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("#upload-error")).to_contain_text("bad.txt, line 1: not UTF-8")
    page.locator("#sentences").fill("\n".join(["A rather long sentence of this and that."] * 20))
    page.get_by_role("button", name="Draw").click()
    expect(page.locator("#matrix td.cell")).to_have_count(400)
    page.locator("#sentences").fill("one")
    page.get_by_role("button", name="Draw").click()
    expect(page.locator("#compare-error")).to_have_text("Write two sentences or more, each on its own line.")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_description_of_the_api_works_without_a_network(page: Page, address: str) -> None:
    page.context.route(lambda url: not url.startswith(address), lambda route: route.abort())
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(f"{address}/docs")
    expect(page.locator(".endpoint")).to_have_count(5)
    expect(page.get_by_text(f"curl {address}/api/search")).to_be_visible()
    assert said == []
