"""Whether the Hub is there is asked as its own client would ask: by way of proxies, and at HF_ENDPOINT."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from tests.conftest import inherited
from tests.hub_server import HubServer

ASK = """
import logging, os, sys
logging.basicConfig(format="%(message)s")
from simcse_lit.config.network import use_cache_when_unreachable
from simcse_lit.errors import UserError
assert not {"torch", "huggingface_hub", "httpx", "httpx2"} & set(sys.modules), "the question is dear before it is asked"
with use_cache_when_unreachable(False):
    assert not {"torch", "huggingface_hub", "httpx", "httpx2"} & set(sys.modules), "nobody asked"
try:
    with use_cache_when_unreachable(True) as offline:
        from huggingface_hub import constants
        print(offline, os.environ.get("HF_HUB_OFFLINE"), constants.HF_HUB_OFFLINE)
except UserError as error:
    print("UserError:", error)
from huggingface_hub import constants
print("afterwards", os.environ.get("HF_HUB_OFFLINE"), constants.HF_HUB_OFFLINE)
"""
NOWHERE = "http://hub.invalid"
CLOSED = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """As a proxy it is asked for whole URLs, and answers as the Hub."""
    with HubServer(tmp_path_factory.mktemp("hub")) as server:
        yield server


def ask(**env: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in inherited().items() if not name.lower().endswith("_proxy")}
    return subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, env={**environment, **env})


@pytest.mark.parametrize("variable", ["ALL_PROXY", "all_proxy", "HTTP_PROXY"])
def test_the_hub_is_asked_by_way_of_the_proxy(hub: HubServer, variable: str) -> None:
    done = ask(HF_ENDPOINT=NOWHERE, **{variable: hub.url})
    assert done.stdout.splitlines() == ["False None False", "afterwards None False"], done.stderr


def test_a_proxy_that_is_gone_is_not_passed_by(hub: HubServer) -> None:
    done = ask(HF_ENDPOINT=hub.url, ALL_PROXY=CLOSED)
    assert done.stdout.splitlines() == ["True 1 True", "afterwards None False"]
    assert f"{hub.url} cannot be reached" in done.stderr


def test_a_hub_that_no_proxy_names_is_asked_directly(hub: HubServer) -> None:
    done = ask(HF_ENDPOINT=hub.url, ALL_PROXY=CLOSED, NO_PROXY="127.0.0.1")
    assert done.stdout.splitlines() == ["False None False", "afterwards None False"], done.stderr


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_who_chose_to_be_offline_is_not_asked(hub: HubServer, variable: str) -> None:
    before = len(hub.requests)
    done = ask(HF_ENDPOINT=hub.url, **{variable: "1"})
    kept = "1" if variable == "HF_HUB_OFFLINE" else "None"
    assert done.stdout.splitlines() == [f"False {kept} True", f"afterwards {kept} True"]
    assert len(hub.requests) == before


@pytest.mark.parametrize("proxy", ["ftp://127.0.0.1:1", "socks5://127.0.0.1:1"])
def test_a_proxy_that_the_client_cannot_use_is_a_message(proxy: str) -> None:
    if proxy.startswith("socks") and find_spec("socksio"):
        return  # the client can use it
    done = ask(HF_ENDPOINT=NOWHERE, ALL_PROXY=proxy)
    assert "UserError: The Hub's client cannot use the proxy that ALL_PROXY" in done.stdout, done.stdout + done.stderr
