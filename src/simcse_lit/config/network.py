"""Decides whether the Hub is worth asking, before its client is imported.

Without a network the client retries every request for half a minute, a dozen times over. One question with a short limit,
and the client's own offline mode, make the same run start from cached copies at once, or fail at once with a message.
"""

import logging
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException

from simcse_lit.config.resolvers import is_hub, is_local
from simcse_lit.config.schema import EvaluateConfig, SentEvalConfig, TrainConfig

log = logging.getLogger(__name__)

HUB = "https://huggingface.co"
LIMIT_S = 5.0


def training_needs_hub(config: TrainConfig) -> bool:
    """Whether a run would ask the Hub for weights, text or SentEval's files."""
    files = config.data.train_file if isinstance(config.data.train_file, list) else [config.data.train_file]
    models = [name for name in (config.model.name_or_path, config.augmentation.model) if name is not None]
    return not all(map(is_local, models)) or files_need_hub(files) or _senteval_needs_hub(config.senteval)


def evaluation_needs_hub(config: EvaluateConfig) -> bool:
    """Whether an evaluation would ask the Hub for encoders, the text to fit on or SentEval's files."""
    encoders = models_need_hub(config.checkpoint + config.compare)
    return encoders or files_need_hub([config.postprocess.fit_on]) or _senteval_needs_hub(config.senteval)


def models_need_hub(names: Sequence[str]) -> bool:
    """Whether one of these encoders would be asked of the Hub."""
    return any(not (is_local(name) or name.endswith(".ckpt")) for name in names)


def files_need_hub(files: Sequence[str | None]) -> bool:
    """Whether one of these files, where given, would be asked of the Hub."""
    return any(file is not None and is_hub(file) for file in files)


def _senteval_needs_hub(config: SentEvalConfig) -> bool:
    return config.from_hub and config.dir is None


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
