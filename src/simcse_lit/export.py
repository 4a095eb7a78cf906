"""python -m simcse_lit.export: compose `conf/export.yaml`; write an encoder for another library, and push it to the Hub.

Torch is imported inside `export`, once the configuration has been found right.
"""

from pathlib import Path

from omegaconf import DictConfig

from simcse_lit.cli.cli import run
from simcse_lit.config.checks.export import validate_export
from simcse_lit.config.network import models_need_hub, use_cache_when_unreachable
from simcse_lit.config.schema import ExportConfig

# Values that are taken as they stand, whatever they would mean to Hydra.
TEXTS = ("checkpoint", "output", "push_to_hub")


def main(composed: DictConfig) -> None:
    """Export what a composed configuration names."""
    config = validate_export(composed)
    use_cache_when_unreachable(models_need_hub([str(config.checkpoint)]))
    export(config)


def export(config: ExportConfig) -> None:
    """Write the folder, and upload it if that is asked for.

    Raises:
        UserError: the encoder cannot be loaded or not be written in this format, or the Hub refuses it.
    """
    from simcse_lit.formats.convert import export_as
    from simcse_lit.formats.loading import load_encoder
    from simcse_lit.reporting.run.console import log, quiet_libraries

    quiet_libraries()
    output = Path(str(config.output)).expanduser()
    loaded = load_encoder(
        str(config.checkpoint),
        revision=config.revision,
        pooler=config.pooler.name if config.pooler else None,
        projection=config.projection.name if config.projection else None,
    )
    export_as(loaded, output, format=config.format, int8=config.int8)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file()) / 2**20
    log.info("%s: pooler %s, projection %s, %.1f MiB", output, loaded.pooler, loaded.projection, size)
    if config.push_to_hub is not None:
        from simcse_lit.formats.push import push

        log.info("Pushed to %s", push(output, config.push_to_hub, private=config.private))


if __name__ == "__main__":
    run(main, "export", texts=TEXTS)
