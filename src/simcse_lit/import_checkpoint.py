"""python -m simcse_lit.import_checkpoint: compose `conf/import_checkpoint.yaml`; the paper's checkpoint to our export.

Torch is imported inside `import_checkpoint`, once the configuration has been found right.
"""

from pathlib import Path

from omegaconf import DictConfig

from simcse_lit.cli.cli import run
from simcse_lit.config.checks.export import validate_import
from simcse_lit.config.network import models_need_hub, use_cache_when_unreachable
from simcse_lit.config.schema import ImportConfig

# Values that are taken as they stand, whatever they would mean to Hydra.
TEXTS = ("checkpoint", "output", "tokenizer")


def main(composed: DictConfig) -> None:
    """Import what a composed configuration names."""
    config = validate_import(composed)
    use_cache_when_unreachable(models_need_hub([config.tokenizer] if config.tokenizer else []))
    import_checkpoint(config)


def import_checkpoint(config: ImportConfig) -> None:
    """Read the checkpoint, write the export, and say how its vectors are read and why.

    Raises:
        UserError: it cannot be read, or does not say how its vectors are read.
    """
    from simcse_lit.formats.export import export
    from simcse_lit.formats.model_card import Provenance
    from simcse_lit.formats.paper_checkpoint import TRAINED_LENGTH, read_paper_checkpoint
    from simcse_lit.reporting.run.console import log, quiet_libraries

    quiet_libraries()
    source, output = Path(str(config.checkpoint)).expanduser(), Path(str(config.output)).expanduser()
    imported = read_paper_checkpoint(
        source,
        tokenizer=config.tokenizer,
        pooler=config.pooler.name if config.pooler else None,
        projection=config.projection.name if config.projection else None,
    )
    encoder = imported.encoder
    made = Provenance(str(source), imported.loss)
    export(encoder, imported.tokenizer, output, max_length=TRAINED_LENGTH, provenance=made)
    log.info("%s: pooler %s, projection %s: %s", output, encoder.pooler, encoder.projection_name, imported.why)


if __name__ == "__main__":
    run(main, "import_checkpoint", texts=TEXTS)
