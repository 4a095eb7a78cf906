"""Decides whether the Hub is worth asking, before its client is imported.

Without a network the client retries each of its many requests before it gives up. One question with a short limit,
and the client's own offline mode, make the same run start from cached copies at once, or fail at once with a message.
"""

import logging
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable
from http.client import HTTPException

from simcse_lit.config.resolvers import is_hub, is_local
from simcse_lit.config.schema import SentEvalConfig

log = logging.getLogger(__name__)

HUB = "https://huggingface.co"
LIMIT_S = 5.0


def needs_hub(models: Iterable[str], files: Iterable[str] = (), senteval: SentEvalConfig | None = None) -> bool:
    """Whether the Hub would be asked for one of these encoders, for one of these files of text, or for SentEval's files."""
    return (
        any(not (is_local(name) or name.endswith(".ckpt")) for name in models)
        or any(map(is_hub, files))
        or (senteval is not None and senteval.from_hub and senteval.dir is None)
    )


def use_cache_when_unreachable(needed: bool) -> None:
    """Put the Hub's client into its offline mode if a run needs the Hub and the Hub does not answer.

    A choice of the user's (HF_HUB_OFFLINE) stays. One made here holds for one job: the next job of a multirun asks again.
    """
    global _set_here
    if not needed:
        return
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE") and not _set_here:
        return
    endpoint = os.environ.get("HF_ENDPOINT", HUB)
    try:
        urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=LIMIT_S).close()
    except urllib.error.HTTPError:
        reachable = True  # it answered, if only to refuse this page
    except (OSError, ValueError, HTTPException) as error:
        reachable = False
        log.warning("%s cannot be reached\n(%s); using what is on this machine.", endpoint, error)
    else:
        reachable = True
    if reachable != _set_here:
        return
    _set_here = not reachable
    os.environ["HF_HUB_OFFLINE"] = str(int(_set_here))
    if client := sys.modules.get("huggingface_hub.constants"):  # imported by an earlier job, which read the variable
        client.HF_HUB_OFFLINE = _set_here  # type: ignore[attr-defined]


_set_here = False
