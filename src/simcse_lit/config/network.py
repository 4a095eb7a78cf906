"""Checks whether the Hub answers before a run uses it.

Without a network the Hub's client retries each of its many requests. One request with a short timeout and the client's
offline mode let the same run use cached files immediately, or fail immediately with a message.
"""

import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from simcse_lit.config.resolvers import is_hub, is_local
from simcse_lit.config.schema import SentEvalConfig
from simcse_lit.errors import UserError

log = logging.getLogger(__name__)

LIMIT_S = 5.0
VARIABLE = "HF_HUB_OFFLINE"
CLIENTS = ("huggingface_hub.constants", "datasets.config")  # they read the variable once, into an attribute of the same name


def needs_hub(models: Iterable[str], files: Iterable[str] = (), senteval: SentEvalConfig | None = None) -> bool:
    """Return whether one of these encoders, one of these text files, or SentEval's files would come from the Hub."""
    return (
        any(not (is_local(name) or name.endswith(".ckpt")) for name in models)
        or any(map(is_hub, files))
        or (senteval is not None and senteval.from_hub and senteval.dir is None)
    )


@contextmanager
def use_cache_when_unreachable(needed: bool) -> Iterator[bool]:
    """Keep the Hub's client offline within the block if a run needs the Hub and the Hub does not answer.

    HF_HUB_OFFLINE, if the user has set it, is respected. The process is restored afterwards.

    Args:
        needed: whether the run needs the Hub.

    Yields:
        Whether this function has switched the client to offline mode.

    Raises:
        UserError: the environment names a proxy that the client cannot use.
    """
    unreachable = needed and not _answers()
    with hub_offline(unreachable):
        yield unreachable


@contextmanager
def hub_offline(wanted: bool) -> Iterator[None]:
    """Keep the Hub's client, also in child processes, offline within the block if `wanted`."""
    if not wanted:
        yield
        return
    variable = os.environ.get(VARIABLE)
    before = {name: getattr(sys.modules[name], VARIABLE) for name in CLIENTS if name in sys.modules}
    os.environ[VARIABLE] = "1"
    for name in before:
        setattr(sys.modules[name], VARIABLE, True)
    try:
        yield
    finally:
        if variable is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = variable
        for name in CLIENTS:  # a module imported in the block has read the block's value
            if name in sys.modules:
                setattr(sys.modules[name], VARIABLE, before.get(name, False))


def _answers() -> bool:
    """Return whether the Hub answers, by the environment's endpoint, proxies and certificates; True if offline anyway."""
    from huggingface_hub import constants  # slow to import, and most runs need no Hub

    if constants.HF_HUB_OFFLINE:
        return True
    from huggingface_hub.utils import get_session, httpx  # the client itself

    try:
        session = get_session()
    except (ImportError, ValueError) as error:
        raise UserError(
            f"The Hub's client cannot use the proxy that ALL_PROXY, HTTPS_PROXY or HTTP_PROXY names: {error}\n"
            "Correct or unset the variable."
        ) from error
    try:
        session.head(constants.ENDPOINT, timeout=LIMIT_S)  # any status is an answer
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
        log.warning("%s cannot be reached\n(%s); using files on this machine.", constants.ENDPOINT, error)
        return False
    return True
