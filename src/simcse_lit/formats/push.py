"""Uploads an export to the Hugging Face Hub."""

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import httpx

from simcse_lit.errors import UserError


def push(folder: Path, repository: str, *, private: bool) -> str:
    """Upload a folder as one commit, creating the repository if needed.

    Args:
        folder: an export; its README.md becomes the model card.
        repository: OWNER/NAME.
        private: whether a new repository is private. An existing one stays as it is.

    Returns:
        The URL of the commit.

    Raises:
        UserError: you are not logged in or not allowed, the Hub refuses the card, or it cannot be reached.
    """
    api = HfApi()
    kept = f"The folder {folder} is complete. Fix this, then push it again."
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        done = api.upload_folder(folder_path=folder, repo_id=repository, commit_message="Upload an encoder of simcse-lit")
    except HfHubHTTPError as error:
        status = error.response.status_code
        hint = " Log in with a token that can write: hf auth login" if status in (401, 403) else ""
        raise UserError(f"push_to_hub={repository}: refused with status {status}.{hint}\n{kept}") from error
    except ValueError as error:  # the Hub checks the card
        raise UserError(f"push_to_hub={repository}: the Hub refuses {folder / 'README.md'}: {error}\n{kept}") from error
    except (httpx.HTTPError, OfflineModeIsEnabled) as error:
        raise UserError(f"push_to_hub={repository}: {api.endpoint} cannot be reached: {error}\n{kept}") from error
    return str(done.commit_url)
