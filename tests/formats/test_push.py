"""Pushing an export: one commit on a stand-in for the Hub, from where it loads again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from simcse_lit.encoding.passes import encode
from simcse_lit.formats.loading import load_encoder
from tests.formats.test_sentence_transformers import SENTENCES, trained
from tests.hub_server import HubServer


@pytest.mark.long
def test_a_pushed_export_loads_from_the_hub_with_its_card_and_embeddings(tmp_path: Path) -> None:
    _, expected = trained(tmp_path / "export", "avg", "mlp")
    (tmp_path / "hub").mkdir()
    arguments = ["checkpoint=export", "output=pushed", "push_to_hub=me/my-simcse"]
    with HubServer(tmp_path / "hub") as hub:
        environment = hub.environment(tmp_path / "cache")

        def run(*command: str, **more: str) -> "subprocess.CompletedProcess[str]":
            env = {"PYTHONPATH": ":".join(path for path in sys.path if path), **environment, **more}
            return subprocess.run([sys.executable, *command], env=env, cwd=tmp_path, capture_output=True, text=True)

        done = run("-m", "simcse_lit.export", *arguments)
        assert done.returncode == 1
        assert "push_to_hub=me/my-simcse: refused with status 401. Log in with a token that can write" in done.stderr
        (tmp_path / "pushed").rename(tmp_path / "first")
        card = tmp_path / "export" / "README.md"
        written = card.read_text(encoding="utf-8")
        card.write_text(written.replace("- simcse\n", "- simcse\nbase_model: /home/me/model\n", 1))
        done = run("-m", "simcse_lit.export", *arguments, HF_TOKEN="hf_x", HF_HUB_DISABLE_IMPLICIT_TOKEN="0")
        assert done.returncode == 1
        assert "push_to_hub=me/my-simcse: the Hub refuses pushed/README.md" in done.stderr
        assert '"base_model" must be the id of a model' in done.stderr and "The folder pushed is complete" in done.stderr
        (tmp_path / "pushed").rename(tmp_path / "second")
        card.write_text(written)
        done = run("-m", "simcse_lit.export", *arguments, HF_TOKEN="hf_x", HF_HUB_DISABLE_IMPLICIT_TOKEN="0")
        assert done.returncode == 0, done.stderr
        assert "Pushed to http" in done.stderr
        assert sum("/commit/main" in request for request in hub.requests) == 1
        code = "from simcse_lit.formats.loading import load_encoder; "
        code += "print(load_encoder('me/my-simcse', revision=None, pooler=None, projection=None).pooler)"
        done = run("-c", code)
        assert done.stdout.strip() == "avg", done.stderr
    there = tmp_path / "hub" / "models" / "me" / "my-simcse"
    names = {path.name for path in there.iterdir()}
    assert {path.name for path in (tmp_path / "pushed").iterdir()} <= names
    shown = (there / "README.md").read_text(encoding="utf-8")
    assert "| after | 77.50 | 70.00 |" in shown and "load_file" in shown
    assert json.loads((there / "config.json").read_text())["simcse"]["pooler"] == "avg"
    loaded = load_encoder(str(there), revision=None, pooler=None, projection=None)
    torch.testing.assert_close(encode(loaded.encoder, loaded.tokenizer, SENTENCES), expected, rtol=0, atol=1e-6)
