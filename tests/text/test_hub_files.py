"""Data sets of the Hub that are several: refused alike by what downloads and by what streams, with what to type instead."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from simcse_lit.text.hub_files import TRAIN, pattern
from tests.conftest import LIMIT_S, ROOT
from tests.hub_server import HubServer

BASE = "hf://datasets/some"
SCRIPT = """
import json, sys
from simcse_lit.data.streaming import open_stream
from simcse_lit.errors import UserError
from simcse_lit.text.sources import open_sources

def rows(sources):
    return [row.fields[0] for source in sources for row in source.rows(["text"])]

for location in json.loads(sys.argv[1]):
    said = []
    for read in (lambda: open_sources(location, None, key="data.train_file"), lambda: open_stream(location, None)):
        try:
            said.append(rows(read()))
        except UserError as error:
            said.append(str(error))
    print(json.dumps(said))
"""
CARD = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: '*/train*.parquet'\n---\n"
CONFIGURATIONS = """---
configs:
- config_name: small
  data_files: small.jsonl
- config_name: large
  data_files:
  - split: train
    path: large/*.jsonl
---
"""


@pytest.fixture(scope="module")
def hub_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hub")

    def put(name: str, content: str | list[str]) -> None:
        path = root / "datasets" / "some" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content)
        else:
            parquet.write_table(pa.table({"text": content}), path)

    for language in ("en", "de"):
        put(f"languages/{language}/train-00000-of-00001.parquet", [f"{language} one"])
        put(f"languages/{language}/test-00000-of-00001.parquet", ["of the test"])
        put(f"plain/{language}/train.parquet", [f"{language} one"])
        put(f"declared/{language}/train.parquet", [f"{language} one"])
    put("declared/README.md", CARD)
    put("configurations/README.md", CONFIGURATIONS)
    put("configurations/small.jsonl", '{"text": "small"}\n')
    for part in range(2):
        put(f"configurations/large/{part}.jsonl", f'{{"text": "large {part}"}}\n')
        put(f"shards/data/train-0000{part}-of-00002.parquet", [f"part {part}"])
    put("shards/data/test.parquet", ["of the test"])
    put("lines/train.jsonl", '{"text": "a line"}\n')
    return root


def ask(locations: list[str], environment: dict[str, str]) -> dict[str, list[Any]]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps([f"{BASE}/{location}" for location in locations])],
        env={**environment, "PYTHONPATH": str(ROOT / "src"), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(locations, map(json.loads, done.stdout.splitlines()), strict=True))


READ = {
    "languages/en/train*.parquet": ["en one"],
    "languages/**/train*.parquet": ["de one", "en one"],
    "plain/de/*.parquet": ["de one"],
    "declared": ["de one", "en one"],
    "configurations/small.jsonl": ["small"],
    "configurations/large/*.jsonl": ["large 0", "large 1"],
    "shards": ["part 0", "part 1"],
    "shards/data/train-*.parquet": ["part 0", "part 1"],
    "lines": ["a line"],
}
REFUSED = {
    "languages": [
        "has several data sets, in the folders de, en.",
        f"{BASE}/languages/de/train-*.parquet",
        f"{BASE}/languages/en/train-*.parquet",
        f"Or all of them: {BASE}/languages/**/train*.parquet",
    ],
    "plain": [f"{BASE}/plain/de/*.parquet", f"{BASE}/plain/en/*.parquet"],
    "configurations": [
        "has several data sets, in the configurations small, large.",
        f"{BASE}/configurations/small.jsonl",
        f"{BASE}/configurations/large/*.jsonl",
    ],
    "languages/en": ["is a folder. Name its files: hf://datasets/some/languages/en/train-*.parquet"],
    "languages/fr/*.parquet": ["the data set some/languages has no such file"],
    "languages/en/none.txt": ["has no such file"],
}


def test_what_is_several_is_refused_and_what_is_typed_instead_is_read(hub_root: Path, tmp_path: Path) -> None:
    with HubServer(hub_root) as server:
        environment = server.environment(tmp_path)
        said = ask([*READ, *REFUSED], environment)
    for location, rows in READ.items():
        assert said[location] == [rows, rows], location
    for location, parts in REFUSED.items():
        downloaded, streamed = said[location]
        for part in parts:
            assert part in downloaded and part in streamed, location
        assert downloaded.startswith(f"data.train_file: {BASE}/{location}: ")
    offline = ask(list(READ), {**environment, "HF_HUB_OFFLINE": "1"})  # what was downloaded is found in the cache
    for location, rows in READ.items():
        if location not in ("plain/de/*.parquet",):
            assert offline[location][0] == rows, location


@pytest.mark.parametrize(
    ("files", "others", "form"),
    [
        (["en/a.parquet", "en/b.parquet"], ["de/a.parquet", "en/notes.md"], "en/*.parquet"),
        (["en/train-00000-of-00001.parquet"], ["en/test-00000-of-00001.parquet"], "en/train-*.parquet"),
        (["train1.csv.gz", "train2.csv.gz"], ["test1.csv.gz"], "train*.csv.gz"),
        (["a.jsonl"], ["b.jsonl"], "a.jsonl"),
        (["v1/train.parquet"], ["v1/test.parquet"], "v1/train.parquet"),
    ],
)
def test_a_form_matches_the_files_and_no_others(files: list[str], others: list[str], form: str) -> None:
    assert pattern(files, [*files, *others]) == form


@pytest.mark.parametrize(
    "name", ["train.jsonl", "data/train-00000-of-00002.parquet", "train/0.parquet", "en_train.csv", "train2.csv"]
)
def test_files_of_a_train_split_are_known_by_name(name: str) -> None:
    assert TRAIN.search(name)


@pytest.mark.parametrize("name", ["test.jsonl", "constraint.csv", "trainer.json", "data/validation.parquet"])
def test_other_files_are_no_train_split(name: str) -> None:
    assert not TRAIN.search(name)
