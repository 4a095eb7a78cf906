"""What `quick_hydra.py` changes does not change what Hydra composes."""

import json
import subprocess
import sys

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from simcse_lit.cli.verbs import COMPOSED
from simcse_lit.config import CONF_DIR
from tests.conftest import inherited

CASES: list[tuple[str, list[str]]] = [
    *((verb, []) for verb in COMPOSED),
    ("train", ["model=roberta-large", "loss=sup", "pooler=cls_before_pooler", "~callbacks"]),
    ("train", ["+sweep=miniature/temperature", "seed=3"]),
    ("train", ["experiment=miniature-sup", "recipe=unsup"]),
    ("evaluate", ["tasks=[STS-B,MR]", "postprocess=whitening"]),
]

PLAIN = """
import json, sys
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from simcse_lit.config import CONF_DIR, resolvers, schema
schema.register()
resolvers.register()
with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
    json.dump([OmegaConf.to_yaml(compose(*case, return_hydra_config=True)) for case in json.load(sys.stdin)], sys.stdout)
"""


def test_hydra_composes_the_same_as_without_it() -> None:
    plain = subprocess.run(
        [sys.executable, "-c", PLAIN], input=json.dumps(CASES), env=inherited(), capture_output=True, text=True, check=True
    )
    for (verb, overrides), expected in zip(CASES, json.loads(plain.stdout), strict=True):
        for _ in range(2):  # as it is read first, and as it is kept
            with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
                assert OmegaConf.to_yaml(compose(verb, overrides, return_hydra_config=True)) == expected
