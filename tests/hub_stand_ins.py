"""Small stand-ins for the models and data sets that conf/ and the documents name on the Hub, for `hub_server.HubServer`."""

import csv
import io
import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from pyarrow import parquet
from safetensors.torch import load_file
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, BertModel, Qwen3Config, Qwen3Model

from simcse_lit.config.resolvers import local_path
from tests.conftest import evaluate_config

TINY = local_path("pkg://simcse_lit/data/samples/tiny", "test")
SAMPLES = TINY.parent


def make_models(root: Path, names: Iterable[str]) -> None:
    """Random weights under each name: a release of the paper, a decoder, or a BERT with its head."""
    torch.manual_seed(0)
    bert = BertConfig.from_pretrained(TINY)
    for name in names:
        folder = root / "models" / name
        if name.startswith("Qwen/"):
            sizes: dict[str, Any] = {"vocab_size": bert.vocab_size, "hidden_size": 32, "intermediate_size": 48}
            heads: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
            Qwen3Model(Qwen3Config(**sizes, **heads, num_hidden_layers=2)).save_pretrained(folder)
        elif name.startswith("princeton-nlp/"):
            BertModel(bert).save_pretrained(folder)
            torch.save(
                load_file(folder / "model.safetensors"), folder / "pytorch_model.bin"
            )  # as the paper's authors have it
            (folder / "model.safetensors").unlink()
        else:
            BertForMaskedLM(bert).save_pretrained(folder)
        AutoTokenizer.from_pretrained(TINY).save_pretrained(folder)


def make_corpora(root: Path) -> None:
    """Rows of the bundled text as Wikipedia-1M, the authors' triplets, SNLI, MNLI, and the archive of the STS sets."""
    corpora = root / "datasets" / "princeton-nlp" / "datasets-for-simcse"
    corpora.mkdir(parents=True)
    wiki = (SAMPLES / "wikipedia.txt").read_text(encoding="utf-8").splitlines()[:60]
    (corpora / "wiki1m_for_simcse.txt").write_text("\n".join([*wiki[:30], "", *wiki[30:]]) + "\n", encoding="utf-8")
    shutil.copy(SAMPLES / "triplets.csv", corpora / "nli_for_simcse.csv")
    with (SAMPLES / "triplets.csv").open(encoding="utf-8", newline="") as file:
        triplets = list(csv.DictReader(file))[:20]
    for name, file_name, rows in (
        ("stanfordnlp/snli", "plain_text/train-00000-of-00001.parquet", triplets[:10]),
        ("nyu-mll/multi_nli", "data/train-00000-of-00001.parquet", triplets[10:]),
    ):
        labelled = [
            {"premise": row["sent0"], "hypothesis": row[view], "label": label}
            for row in rows
            for view, label in (("sent1", 0), ("hard_neg", 2))
        ]
        labelled.append({"premise": "No agreement.", "hypothesis": "None.", "label": -1})
        path = root / "datasets" / name / file_name
        path.parent.mkdir(parents=True)
        parquet.write_table(pa.Table.from_pylist(labelled), path)
    senteval_archive(corpora / "senteval.tar")


def senteval_archive(path: Path) -> None:
    """Bundled pairs as the seven STS sets in SentEval's layout, in the archive that the paper's authors publish."""
    with (SAMPLES / "pairs.tsv").open(encoding="utf-8") as file:
        pairs = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[:50]
    files = {}
    for name, entry in evaluate_config("tasks=[sts,STS-B-dev]").tasks.items():
        if "folder" in entry:
            for subset in entry["subsets"]:
                lines = [f"{pair['sentence1']}\t{pair['sentence2']}" for pair in pairs]
                files[f"{entry['folder']}/STS.input.{subset}.txt"] = lines
                files[f"{entry['folder']}/STS.gs.{subset}.txt"] = [pair["score"] for pair in pairs]
        elif name == "SICK-R":
            rows = [f"{n}\t{pair['sentence1']}\t{pair['sentence2']}\t{pair['score']}" for n, pair in enumerate(pairs)]
            files[entry["path"]] = ["pair_ID\tsentence_A\tsentence_B\trelatedness_score", *rows]
        else:
            rows = [
                f"g\tf\ty\t{n}\t{pair['score']}\t{pair['sentence1']}\t{pair['sentence2']}" for n, pair in enumerate(pairs)
            ]
            files[entry["path"]] = rows
    with tarfile.open(path, "w") as tar:
        for name, lines in files.items():
            data = "".join(f"{line}\n" for line in lines).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
