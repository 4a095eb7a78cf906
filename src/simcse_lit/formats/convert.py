"""Writes any loaded encoder as a folder of some format, with a model card."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from simcse_lit.config.extension import prepare
from simcse_lit.config.resolvers import local_path
from simcse_lit.errors import UserError
from simcse_lit.formats.export import recorded_section
from simcse_lit.formats.loading import LoadedEncoder
from simcse_lit.formats.model_card import Provenance, card_for_library, model_card
from simcse_lit.formats.usage import Usage
from simcse_lit.formats.whole_folder import refuse_to_replace, whole_folder
from simcse_lit.formats.writers import trained_length

Write = Callable[[LoadedEncoder, Path], Usage]


def writer(format: Mapping[str, Any]) -> Write:
    """Return the function of a format with its arguments.

    Args:
        format: the group `format` of `conf/`.

    Raises:
        UserError: the function does not exist, or does not take these arguments.
    """
    write = prepare({key: value for key, value in format.items() if key != "name"}, "format", ("loaded", "folder"))

    def checked(loaded: LoadedEncoder, folder: Path) -> Usage:
        said = write(loaded=loaded, folder=folder)
        if not isinstance(said, Usage):
            raise UserError(
                f"format._target_={format['_target_']}: returned {said!r}. It must return a simcse_lit.formats.usage.Usage."
            )
        return said

    return checked


def export_as(loaded: LoadedEncoder, output: Path, write: Write) -> None:
    """Write an encoder to a new folder. The card of an export is kept, with the library and code of the new format.

    Args:
        loaded: any encoder.
        output: the new folder. It appears when it is complete.
        write: writes everything except the card to an existing folder, and returns how the folder is used.

    Raises:
        UserError: the folder already exists, the format cannot hold this encoder, or its card cannot be read.
    """
    refuse_to_replace(output)
    source = local_path(loaded.source, "checkpoint")
    recorded = recorded_section(source) if (source / "config.json").is_file() else None
    length, size = trained_length(loaded), loaded.encoder.truncate_dim
    with whole_folder(output, replace=False) as folder:
        library, code = write(loaded, folder)
        if recorded and (source / "README.md").is_file():
            card = card_for_library(source / "README.md", library, code, truncate_dim=size)
        else:
            made = Provenance(loaded.source, None)
            card = model_card(loaded.pooler, loaded.projection, length, made, library, code, truncate_dim=size)
        card.save(folder / "README.md")
