"""Write an encoder for another library, or to the Hub.

Examples:
  simcse-lit export checkpoint=RUN/export format=sentence-transformers output=FOLDER
  simcse-lit export checkpoint=RUN/export format=onnx int8=true output=FOLDER
  simcse-lit export checkpoint=RUN/export output=FOLDER push_to_hub=OWNER/NAME
"""

if __name__ == "__main__":
    from simcse_lit.cli.cli import run

    run("export")

import logging
from pathlib import Path

from simcse_lit.config.schema import ExportConfig
from simcse_lit.formats.convert import export_as, writer
from simcse_lit.formats.loading import load_encoder
from simcse_lit.formats.push import push
from simcse_lit.reporting.run.console import quiet_libraries

log = logging.getLogger(__name__)


def main(config: ExportConfig) -> None:
    """Write the folder, and upload it if `push_to_hub` is set.

    Raises:
        UserError: the format is unknown, the encoder cannot be loaded or written in it, or the Hub refuses it.
    """
    quiet_libraries()
    write = writer(config.format)
    output = Path(str(config.output)).expanduser()
    loaded = load_encoder(
        str(config.checkpoint),
        revision=config.revision,
        trust_remote_code=config.trust_remote_code,
        pooler=config.pooler,
        projection=config.projection,
        prompt=config.prompt,
        truncate_dim=config.truncate_dim,
    )
    export_as(loaded, output, write)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file()) / 2**20
    log.info("%s: pooler %s, projection %s, %.1f MiB", output, loaded.pooler, loaded.projection, size)
    if config.push_to_hub is not None:
        log.info("Pushed to %s", push(output, config.push_to_hub, private=config.private))
