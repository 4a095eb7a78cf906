"""python -m simcse_lit.encode: compose `conf/encode.yaml`, read a file, write the vector of every text.

Torch is imported inside `encode`, once the configuration has been found right.
"""

import logging
from pathlib import Path

from omegaconf import DictConfig

from simcse_lit.cli.cli import run
from simcse_lit.config.checks.encode import STDIN, reads, validate_encode
from simcse_lit.config.network import files_need_hub, models_need_hub, use_cache_when_unreachable
from simcse_lit.config.schema import EncodeConfig
from simcse_lit.encoding.memory import give_back_freed_memory, keep_few_kernels
from simcse_lit.errors import UserError

log = logging.getLogger("simcse_lit.encode")  # with python -m, __name__ is another

# Paths, which may hold what means something to Hydra.
TEXTS = ("checkpoint", "input", "output", "column")


def main(composed: DictConfig) -> None:
    """Encode the file that a composed configuration names."""
    config = validate_encode(composed)
    use_cache_when_unreachable(models_need_hub([str(config.checkpoint)]) or files_need_hub([config.input]))
    keep_few_kernels()
    encode(config)


def encode(config: EncodeConfig) -> None:
    """Write the vectors of every text of a file, in their order, block by block; go on with what a stopped run left.

    Raises:
        UserError: the input, the output or the encoder cannot be used, the input changes meanwhile, or another run is
            writing the output.
    """
    from simcse_lit.encoding.output import writing
    from simcse_lit.reporting.run.console import quiet_libraries

    quiet_libraries()
    output = Path(str(config.output)).expanduser()
    with writing(output):
        _encode(config, output)


def _encode(config: EncodeConfig, output: Path) -> None:
    import time

    from tqdm import tqdm

    from simcse_lit.encoder.device import find_device
    from simcse_lit.encoding.embedding_cache import fingerprint
    from simcse_lit.encoding.input import TextFile
    from simcse_lit.encoding.output import VectorFile
    from simcse_lit.encoding.texts import Settings, vectors
    from simcse_lit.formats.loading import load_encoder

    copy = output.with_name(f"{output.name}.partial.txt")  # of standard input
    if config.input == STDIN:
        _copy_stdin(copy)
    texts = TextFile(
        str(copy) if config.input == STDIN else str(config.input),
        config.column,
        key="input",
        on_bad_row=config.on_bad_row,
        name="standard input" if config.input == STDIN else None,
    )
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
        log.info("Going on after %s of %s lines.", f"{first:,}", f"{len(texts):,}")
    with tqdm(total=len(texts), initial=first, desc="Encoding", unit=" lines", ncols=78, leave=False) as bar:
        for block in texts.blocks(config.block, first):
            file.append(vectors(loaded, [row.fields[0] for row in block], settings).numpy())
            bar.update(len(block))
            give_back_freed_memory()
    file.finish(texts.rows(), config.block, texts.check_unchanged)
    copy.unlink(missing_ok=True)
    seconds = time.perf_counter() - start
    log.info("%s: %s vectors; %.0f lines/s", output, f"{len(texts):,}", (len(texts) - first) / seconds)


def _copy_stdin(path: Path) -> None:
    """Standard input to a file beside the output: it is read twice, and a run that goes on compares it with the last."""
    import shutil
    import sys

    if sys.stdin.isatty():
        raise UserError("input=-: standard input is the terminal. Pipe a file into it, or name one: input=FILE.")
    try:
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
    except OSError as error:
        raise UserError(f"output: {path}: cannot be written: {error.strerror or error}.") from error


if __name__ == "__main__":
    run(main, "encode", texts=TEXTS)
