"""Serve a page and a JSON API over an encoder and an index.

Examples:
  simcse-lit serve checkpoint=RUN/export
  simcse-lit serve checkpoint=MODEL corpus=sentences.txt port=9000
  simcse-lit serve checkpoint=MODEL folder=INDEX upload=false
"""

if __name__ == "__main__":
    from simcse_lit.cli.cli import run

    run("serve")

import logging
import socket
from pathlib import Path

import uvicorn

from simcse_lit.config.checks.encode import reads
from simcse_lit.config.schema import ServeConfig
from simcse_lit.encoder.device import find_device
from simcse_lit.encoding.input import TextFile
from simcse_lit.encoding.texts import Settings
from simcse_lit.errors import UserError
from simcse_lit.formats.loading import load_encoder
from simcse_lit.reporting.run.console import quiet_libraries
from simcse_lit.retrieval.index import Index
from simcse_lit.server.app import create_app
from simcse_lit.server.service import Service

log = logging.getLogger(__name__)


def main(config: ServeConfig) -> None:
    """Serve until the process is stopped.

    Raises:
        UserError: the encoder, the index or the corpus cannot be used, or the port is in use.
    """
    quiet_libraries()
    listener = _listen(config.host, config.port)
    service = _service(config)
    address = f"http://{f'[{config.host}]' if ':' in config.host else config.host}:{listener.getsockname()[1]}"
    log.info("Serving %s\n  page    %s\n  API     %s/docs\nPress Ctrl-C to stop.", service.loaded.source, address, address)
    server = uvicorn.Server(uvicorn.Config(create_app(service, config), log_level="warning", timeout_graceful_shutdown=5))
    server.run(sockets=[listener])


def _service(config: ServeConfig) -> Service:
    """Load the encoder and the index or corpus."""
    corpus = None
    if config.folder is None and config.corpus is not None:
        corpus = list(TextFile(config.corpus, config.column, key="corpus").texts())
    loaded = load_encoder(str(config.checkpoint), **reads(config))
    loaded.encoder.to(find_device(config.device))
    settings = Settings(config.max_length, config.token_budget, config.precision, normalize=False)
    service = Service(loaded, settings, config.limits.waiting)
    if config.folder is not None:
        service.use_index(Index.load(Path(config.folder).expanduser()), config.folder)
    elif corpus is not None:
        service.use_corpus(corpus, Path(str(config.corpus)).name)
    return service


def _listen(host: str, port: int) -> socket.socket:
    """Listen before anything is loaded, so that a port in use is reported immediately."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        raise UserError(
            f"host={host} port={port}: cannot listen there: {error.strerror or error}.\n"
            "Use another port, or port=0 for a free one."
        ) from error
    return listener
