"""docs/reference/http.md: its routes and fields are those of the server, and its commands work."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from simcse_lit.config.schema import LimitsConfig
from simcse_lit.formats.loading import load_encoder
from tests.conftest import ROOT
from tests.server.served import CORPUS, client_of, config, raw_model, service_of, wait_until_ready

TEXT = (ROOT / "docs" / "reference" / "http.md").read_text(encoding="utf-8")
SECTIONS = {part.split("\n")[0]: part for part in TEXT.split("\n## ")[1:]}


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    served = config()
    loaded = load_encoder(str(raw_model(tmp_path_factory.mktemp("raw"))), revision=None, pooler="avg", projection=None)
    service = service_of(loaded, served)
    service.use_corpus(CORPUS, "corpus.txt")
    with client_of(service, served) as made:
        wait_until_ready(made)
        yield made
    service.batcher.close()


def routes(client: TestClient) -> dict[str, dict[str, Any]]:
    """What OpenAPI says of each route, by method and path."""
    paths = client.get("/openapi.json").json()["paths"]
    return {f"{method.upper()} {path}": about for path, methods in paths.items() for method, about in methods.items()}


def documented(part: str) -> set[str]:
    """The names in the first column of the tables of a section."""
    return set(re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE))


def test_every_route_is_on_the_page_and_no_other(client: TestClient) -> None:
    assert {heading for heading in SECTIONS if re.match(r"[A-Z]+ /", heading)} == routes(client).keys()


def test_every_field_is_on_the_page_and_no_other(client: TestClient) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for route, about in routes(client).items():
        expected: set[str] = {parameter["name"] for parameter in about.get("parameters", [])}
        bodies = [
            about.get("requestBody", {}),
            *(answer for status, answer in about["responses"].items() if status[0] == "2"),
        ]
        for body in bodies:
            named = body.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "")
            expected |= schemas.get(named.rpartition("/")[2], {}).get("properties", {}).keys()
        if route == "GET /health":
            expected |= client.get("/health").json().keys()
        if route == "PUT /api/corpus":
            expected |= {"sentences"}
        assert documented(SECTIONS[route]) == expected, route


def test_what_a_hit_and_a_corpus_hold_is_on_the_page(client: TestClient) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for name in schemas["FoundSentence"]["properties"]:
        assert f"`{name}`" in SECTIONS["POST /api/search"], name
    for name in client.get("/health").json()["corpus"]:
        assert f"`{name}`" in SECTIONS["GET /health"], name


def test_every_limit_is_on_the_page() -> None:
    limits = {f"limits.{each.name}" for each in fields(LimitsConfig)}
    assert set(re.findall(r"^\| `(limits\.\w+)`", SECTIONS["Limits"], re.MULTILINE)) == limits


def test_every_default_on_the_page_is_the_servers(client: TestClient) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for route, about in routes(client).items():
        reference = (
            about.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "")
        )
        for name, field in schemas.get(reference.rpartition("/")[2], {}).get("properties", {}).items():
            (shown,) = re.findall(rf"^\| `{name}` \| [^|]+ \| ([^|]+) \|", SECTIONS[route], re.MULTILINE)
            default = {True: "true", None: "null"}.get(field.get("default"), field.get("default"))
            assert shown == (
                f"`{default}`" if "default" in field else "required" if name in ("sentences", "queries") else "`null`"
            )


@pytest.mark.parametrize("route", [heading for heading in SECTIONS if "curl" in SECTIONS[heading]])
def test_each_command_is_answered(client: TestClient, route: str, tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("A dog barks.\nIt rains.\n")
    (command,) = re.findall(r"^curl .*", SECTIONS[route], re.MULTILINE)
    words = shlex.split(command)
    url = next(word for word in words if word.startswith("http://127.0.0.1:8000"))
    method, path = route.split()
    assert url.removeprefix("http://127.0.0.1:8000").partition("?")[0] == path
    body: Any = None
    headers = {}
    if "-d" in words:
        body = words[words.index("-d") + 1].encode()
        headers = dict([words[words.index("-H") + 1].split(": ")])
    if "--data-binary" in words:
        body = (tmp_path / words[words.index("--data-binary") + 1].removeprefix("@")).read_bytes()
    assert method == (words[words.index("-X") + 1] if "-X" in words else "POST" if body else "GET")
    answered = client.request(method, url, content=body, headers=headers)
    assert answered.is_success, answered.text
    assert answered.json().keys() <= documented(SECTIONS[route])
    wait_until_ready(client)


def test_the_statuses_of_refusals_are_on_the_page(client: TestClient) -> None:
    told = set(re.findall(r"\d{3}", " ".join(re.findall(r"^\| ([\d, ]+) \|", SECTIONS["Errors"], re.MULTILINE))))
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src" / "simcse_lit" / "server").glob("*.py"))
    raised = set(re.findall(r"(?:HTTPException|error)\(\s*(\d{3}),", source))
    assert raised <= told
    assert {str(client.get("/none").status_code), str(client.get("/api/encode").status_code)} <= told
    answered = client.post("/api/encode", json={"sentences": []})
    assert answered.text == SECTIONS["Errors"].split("```json\n")[1].split("\n")[0].replace('": "', '":"')
