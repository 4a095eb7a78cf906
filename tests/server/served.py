"""What the tests of the server start: a tiny model, and the server in this process."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import torch
from fastapi.testclient import TestClient
from hydra import compose, initialize_config_dir
from transformers import AutoTokenizer, BertConfig, BertModel

from simcse_lit.config import CONF_DIR
from simcse_lit.config.checks.encode import validate_serve
from simcse_lit.config.resolvers import local_path
from simcse_lit.config.schema import ServeConfig
from simcse_lit.encoding.texts import Settings
from simcse_lit.formats.loading import LoadedEncoder
from simcse_lit.server.app import create_app
from simcse_lit.server.service import Service
from tests.conftest import LIMIT_S

TINY = local_path("pkg://simcse_lit/data/samples/tiny", "test")
CORPUS = ["A dog barks at the moon.", "It rains all day.", "The ship sails at dawn.", "A cat sleeps."]


def raw_model(folder: Path) -> Path:
    torch.manual_seed(0)
    BertModel(BertConfig.from_pretrained(TINY)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(TINY).save_pretrained(folder)
    return folder


def config(*overrides: str) -> ServeConfig:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return validate_serve(compose("serve", ["checkpoint=unused", *overrides]))


def service_of(loaded: LoadedEncoder, served: ServeConfig) -> Service:
    return Service(loaded, Settings(128, 4096, "32-true", normalize=False), served.limits.waiting)


def client_of(service: Service, served: ServeConfig) -> TestClient:
    return TestClient(create_app(service, served), "http://127.0.0.1:8000", raise_server_exceptions=False)


def wait_until_ready(client: TestClient) -> dict[str, Any]:
    last = time.monotonic() + LIMIT_S
    while time.monotonic() < last:
        health: dict[str, Any] = client.get("/health").json()
        if health["corpus"]["state"] in ("ready", "failed"):
            return health
        time.sleep(0.01)
    raise AssertionError("the corpus was never ready")


@contextmanager
def serving(folder: Path, *words: str, **env: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The command `serve` in a folder, on a free port: its process and its address, once its corpus can be searched."""
    process = subprocess.Popen(
        [sys.executable, "-m", "simcse_lit.serve", "port=0", *words],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a test run in the background ignores it
    )
    try:
        assert process.stderr is not None
        said = ""
        while "/docs" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        address = re.findall(r"page +(http://127\.0\.0\.1:\d+)", said)[0]
        while process.poll() is None:
            with suppress(httpx.ConnectError):
                if httpx.get(f"{address}/health", timeout=LIMIT_S).json()["corpus"]["state"] == "ready":
                    break
            time.sleep(0.05)
        yield process, address
    finally:
        process.kill()
        process.wait()
