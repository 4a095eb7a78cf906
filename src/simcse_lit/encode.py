"""Write the vector of every line of a file.

Examples:
  simcse-lit encode checkpoint=RUN/export input=corpus.txt output=corpus.npy
  simcse-lit encode checkpoint=MODEL input=table.csv column=text output=table.parquet
  cat corpus.txt | simcse-lit encode checkpoint=MODEL input=- output=corpus.safetensors

Run the same command again to resume a run that was stopped.
"""

if __name__ == "__main__":
    from simcse_lit.cli.cli import run

    run("encode")

import logging
import shutil
import sys
import time
from pathlib import Path

from simcse_lit.config.checks.encode import STDIN, reads
from simcse_lit.config.schema import EncodeConfig
from simcse_lit.encoder.device import find_device
from simcse_lit.encoding.embedding_cache import fingerprint
from simcse_lit.encoding.input import TextFile
from simcse_lit.encoding.memory import give_back_freed_memory, keep_few_kernels
from simcse_lit.encoding.output import VectorFile, beside, writing
from simcse_lit.encoding.texts import Settings, vectors
from simcse_lit.errors import UserError
from simcse_lit.formats.loading import load_encoder
from simcse_lit.progress import Bar
from simcse_lit.reporting.run.console import quiet_libraries

log = logging.getLogger(__name__)


def main(config: EncodeConfig) -> None:
    """Write the vector of every text of a file, in order and block by block; resume a run that was stopped.

    Raises:
        UserError: the input, the output or the encoder cannot be used, the input changes during the run, or another process
            is writing the output.
    """
    keep_few_kernels()
    quiet_libraries()
    output = Path(str(config.output)).expanduser()
    with writing(output):
        copy = beside(output, "txt")  # of standard input
        if config.input == STDIN:
            _copy_stdin(copy)
        _encode(config, _texts(config, copy), output)
        copy.unlink(missing_ok=True)


def _texts(config: EncodeConfig, copy: Path) -> TextFile:
    stdin = config.input == STDIN
    location, name = (str(copy), "standard input") if stdin else (str(config.input), None)
    return TextFile(location, config.column, key="input", on_bad_row=config.on_bad_row, name=name)


def _encode(config: EncodeConfig, texts: TextFile, output: Path) -> None:
    device = find_device(config.device)
    loaded = load_encoder(str(config.checkpoint), **reads(config))
    loaded.encoder.to(device)
    settings = Settings(config.max_length, config.token_budget, config.precision, config.normalize)
    made_of = {
        "input": texts.digest(),
        "checkpoint": fingerprint(loaded, min(config.max_length, loaded.max_length), config.precision),
        "device": str(device),
        **{key: getattr(config, key) for key in ("on_bad_row", "block", "token_budget", "normalize")},
    }
    file = VectorFile(output, len(texts), made_of)
    start, first = time.perf_counter(), file.done
    if first:
        log.info("Resuming after %s of %s lines.", f"{first:,}", f"{len(texts):,}")
    with Bar(total=len(texts), initial=first, desc="Encoding", unit=" lines") as bar:
        for block in texts.blocks(config.block, first):
            file.append(vectors(loaded, [row.fields[0] for row in block], settings).numpy())
            bar.update(len(block))
            give_back_freed_memory()
    file.finish(texts.rows(), config.block, texts.check_unchanged)
    seconds = time.perf_counter() - start
    log.info("%s: %s vectors; %.0f lines/s", output, f"{len(texts):,}", (len(texts) - first) / seconds)


def _copy_stdin(path: Path) -> None:
    """Copy standard input to a file, since it is read twice, and a resumed run compares it with the earlier input."""
    if sys.stdin.isatty():
        raise UserError("input=-: standard input is the terminal. Pipe a file into the command, or use input=FILE.")
    try:
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
    except OSError as error:
        raise UserError(f"output: {path}: cannot be written: {error.strerror or error}.") from error
