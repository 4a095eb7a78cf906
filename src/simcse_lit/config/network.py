"""Decides whether the Hub is worth asking, before a run asks it.

Without a network the client retries each of its many requests before it gives up. One question with a short limit,
and the client's own offline mode, make the same run start from cached copies at once, or fail at once with a message.
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
CLIENTS = ("huggingface_hub.constants", "datasets.config")  # read the variable once, into an attribute of its name


def needs_hub(models: Iterable[str], files: Iterable[str] = (), senteval: SentEvalConfig | None = None) -> bool:
    """Whether the Hub would be asked for one of these encoders, for one of these files of text, or for SentEval's files."""
    return (
        any(not (is_local(name) or name.endswith(".ckpt")) for name in models)
        or any(map(is_hub, files))
        or (senteval is not None and senteval.from_hub and senteval.dir is None)
    )


@contextmanager
def use_cache_when_unreachable(needed: bool) -> Iterator[bool]:
    """Within the block, keep the Hub's client in its offline mode if a run needs the Hub and the Hub does not answer.

    A choice of the user's (HF_HUB_OFFLINE) stays. Afterwards the process is as it was.

    Args:
        needed: whether the run needs the Hub.

    Yields:
        Whether the block is offline by this.

    Raises:
        UserError: the environment names a proxy that the client cannot use.
    """
    unreachable = needed and not _answers()
    with hub_offline(unreachable):
        yield unreachable


@contextmanager
def hub_offline(wanted: bool) -> Iterator[None]:
    """Within the block, keep the Hub's client in its offline mode, if that is wanted; child processes see it too."""
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
        for name in CLIENTS:  # one that the block imported has read the block's variable
            if name in sys.modules:
                setattr(sys.modules[name], VARIABLE, before.get(name, False))


def _answers() -> bool:
    """Ask the Hub as its client will, by the environment's HF_ENDPOINT, proxies and certificates; True if offline anyway."""
    from huggingface_hub import constants  # a tenth of a second with the client, which most runs have no use for

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
        session.head(constants.ENDPOINT, timeout=LIMIT_S)  # whatever its status, it has answered
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
        log.warning("%s cannot be reached\n(%s); using what is on this machine.", constants.ENDPOINT, error)
        return False
    return True
