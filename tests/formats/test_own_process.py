"""Our Python API leaves the user's process as it was: environment, the Hub's client, loggers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, inherited
from tests.formats.test_sentence_transformers import trained
from tests.hub_server import HubServer

PROLOGUE = """
import json, logging, os, sys
from pathlib import Path
from simcse_lit import SimCSE
from simcse_lit.errors import UserError

def state():
    clients = [sys.modules.get(name) for name in ("huggingface_hub.constants", "datasets.config")]
    loggers = {name: one.level for name, one in logging.root.manager.loggerDict.items() if isinstance(one, logging.Logger)}
    return {
        "environment": dict(os.environ),
        "offline": [client and client.HF_HUB_OFFLINE for client in clients],
        "root": [logging.root.level, len(logging.root.handlers), logging.root.disabled, logging.root.manager.disable],
        "loggers": loggers,
    }
"""
CLOSED = "http://127.0.0.1:9"


def run(code: str, folder: Path, **env: str) -> Any:
    """What the code prints last, as JSON."""
    here = {name: value for name, value in inherited().items() if not name.lower().endswith("_proxy")}
    environment = {**here, "HF_HOME": str(folder / "hub"), "HF_ENDPOINT": CLOSED, **env}
    done = subprocess.run(
        [sys.executable, "-c", PROLOGUE + code], capture_output=True, text=True, cwd=folder, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("variables", [{}, {"HF_HUB_OFFLINE": "0"}, {"HF_HUB_OFFLINE": "1"}])
def test_an_encoder_that_the_hub_should_have_leaves_the_process_as_it_was(tmp_path: Path, variables: dict[str, str]) -> None:
    before, after = run(
        """
import datasets.config
before = state()
for model in ("owner/name", "owner/name", "./nowhere"):
    try:
        SimCSE(model)
    except UserError as error:
        print(error)
print(json.dumps([before, state()]))
""",
        tmp_path,
        **variables,
    )
    assert after["environment"] == before["environment"]
    assert after["offline"] == before["offline"] == [bool(int(variables.get("HF_HUB_OFFLINE", "0")))] * 2
    assert after["root"] == before["root"]


def test_the_next_encoder_is_asked_for_on_a_hub_that_has_come_back(tmp_path: Path) -> None:
    """One question a call: an offline answer does not stick."""
    trained(tmp_path / "root" / "models" / "owner" / "name", "avg", "none")
    code = """
import os
from pathlib import Path
from tests.hub_server import HubServer
server = HubServer(Path("root"))  # not entered, it takes connections and does not answer
os.environ["HF_ENDPOINT"] = server.url
from simcse_lit import SimCSE
from simcse_lit.errors import UserError
try:
    SimCSE("owner/name")
except UserError as error:
    print("without:", str(error).splitlines()[0])
with server:
    print("with:", SimCSE("owner/name")._loaded.pooler)
"""
    with HubServer(tmp_path / "root") as hub:
        environment = hub.environment(tmp_path / "cache")
    path = ":".join([str(ROOT), *(part for part in sys.path if part)])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env={**environment, "PYTHONPATH": path}
    )
    assert "with: avg" in done.stdout.splitlines(), done.stdout + done.stderr
    assert "without:" in done.stdout


def test_an_encoder_is_fetched_by_way_of_a_proxy(tmp_path: Path) -> None:
    """Nothing but the proxy knows where the Hub is; asked past it, the encoder would be looked for in the empty cache."""
    trained(tmp_path / "root" / "models" / "owner" / "name", "avg", "none")
    with HubServer(tmp_path / "root") as hub:
        environment = {name: value for name, value in hub.environment(tmp_path / "cache").items() if name != "no_proxy"}
        way = {"HF_ENDPOINT": "http://hub.invalid", "ALL_PROXY": hub.url}
        found = run('print(json.dumps(SimCSE("owner/name")._loaded.pooler))', tmp_path, **{**environment, **way})
    assert found == "avg"


@pytest.mark.long
@pytest.mark.parametrize("handlers", ["", "logging.basicConfig(level=logging.DEBUG)"])
def test_an_export_to_int8_leaves_loggers_as_they_were(tmp_path: Path, handlers: str) -> None:
    pytest.importorskip("onnxruntime")
    trained(tmp_path / "export", "avg", "none")
    before, after = run(
        f"""
from simcse_lit.formats.convert import export_as
from simcse_lit.formats.loading import load_encoder
from simcse_lit.formats.onnx import write_onnx
from functools import partial
import onnxscript
{handlers}
before = state()
loaded = load_encoder("export", revision=None, pooler=None, projection=None)
export_as(loaded, Path("onnx"), partial(write_onnx, int8=True))
print(json.dumps([before, state()]))
""",
        tmp_path,
    )
    assert after["root"] == before["root"]
    assert {name: after["loggers"][name] for name in before["loggers"]} == before["loggers"]
