"""Fetches data sets from the Hugging Face Hub; HF_ENDPOINT and HF_HUB_OFFLINE are honoured by the client."""

import os
from pathlib import Path

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


def download(location: str, revision: str | None) -> list[Path]:
    """Local copies of `hf://datasets/OWNER/NAME/FILE`, or of the Parquet files of NAME's train split.

    Raises:
        UserError: not such a location, no such repository or file, or the Hub cannot be reached.
    """
    parts = location.removeprefix("hf://").strip("/").split("/", 3)
    if parts[0] != "datasets" or len(parts) < 3:
        raise UserError(f"data.train_file: {location}: expected hf://datasets/OWNER/NAME or hf://datasets/OWNER/NAME/FILE.")
    repository = f"{parts[1]}/{parts[2]}"
    try:
        if len(parts) == 4:
            return [Path(huggingface_hub.hf_hub_download(repository, parts[3], repo_type="dataset", revision=revision))]
        return _train_files(repository, revision)
    except LocalEntryNotFoundError as error:  # an EntryNotFoundError too, so it comes first
        raise UserError(
            f"data.train_file: {location}: not on this machine, and {endpoint()}\n"
            "could not be reached.\n"
            f"  ({str(error).splitlines()[0]})\n"
            "Two ways out: fetch the file elsewhere and train on it (data=file data.train_file=FILE),\n"
            "or use the bundled text: data=samples (experiment=quickstart)."
        ) from error
    except GatedRepoError as error:  # a RepositoryNotFoundError too
        raise UserError(
            f"data.train_file: {location}: is gated; ask for access on {endpoint()}, then: hf auth login."
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(f"data.train_file: {location}: there is no data set {repository} on {endpoint()}.") from error
    except RevisionNotFoundError as error:
        raise UserError(f"data.revision={revision}: {repository} has no such revision.") from error
    except EntryNotFoundError as error:
        raise UserError(f"data.train_file: {location}: {repository} holds no such file.") from error
    except (OSError, HfHubHTTPError, HFValidationError, httpx.HTTPError) as error:
        raise UserError(f"data.train_file: {location}: {endpoint()} failed: {str(error).splitlines()[0]}") from error


def _train_files(repository: str, revision: str | None) -> list[Path]:
    pattern = "train*.parquet"
    folder = huggingface_hub.snapshot_download(
        repository, repo_type="dataset", revision=revision, allow_patterns=[pattern, f"*/{pattern}"]
    )
    files = sorted(Path(folder).rglob(pattern))
    if not files:
        raise UserError(
            f"data.train_file: hf://datasets/{repository}: no Parquet files of a train split; name one of its files."
        )
    return files


def endpoint() -> str:
    """The Hub that is asked."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co")
