"""Convert a checkpoint of the paper's code into an export.

Examples:
  simcse-lit import_checkpoint checkpoint=result/my-unsup-simcse output=FOLDER
  simcse-lit import_checkpoint checkpoint=FOLDER tokenizer=bert-base-uncased output=FOLDER
"""

if __name__ == "__main__":
    from simcse_lit.cli.cli import run

    run("import_checkpoint")

import logging
from pathlib import Path

from simcse_lit.config.schema import ImportConfig
from simcse_lit.formats.export import export
from simcse_lit.formats.model_card import Provenance
from simcse_lit.formats.paper_checkpoint import TRAINED_LENGTH, read_paper_checkpoint
from simcse_lit.reporting.run.console import quiet_libraries

log = logging.getLogger(__name__)


def main(config: ImportConfig) -> None:
    """Read the checkpoint, write the export, and report its pooler and projection and how they were found.

    Raises:
        UserError: the checkpoint cannot be read, its pooler and projection are unclear, or the output exists.
    """
    quiet_libraries()
    source, output = Path(str(config.checkpoint)).expanduser(), Path(str(config.output)).expanduser()
    imported = read_paper_checkpoint(
        source,
        tokenizer=config.tokenizer,
        pooler=config.pooler["name"] if config.pooler else None,
        projection=config.projection["name"] if config.projection else None,
        trust_remote_code=config.trust_remote_code,
    )
    encoder = imported.encoder
    made = Provenance(str(source), imported.loss)
    export(encoder, imported.tokenizer, output, max_length=TRAINED_LENGTH, provenance=made, replace=False)
    log.info("%s: pooler %s, projection %s: %s", output, encoder.pooler.name, encoder.head.name, imported.why)
