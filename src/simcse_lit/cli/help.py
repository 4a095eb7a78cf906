"""What `--help` prints: `conf/hydra/help/` filled with every group and every key. Hydra's own way of listing the options of
a group copies its whole configuration once for each group, which is slow.
"""

import argparse
import os
import string
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from omegaconf import OmegaConf, open_dict

from simcse_lit.config import CONF_DIR


def asked_for(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for help."""
    return bool({"-h", "--help"} & set(arguments))


def show(config_name: str, arguments: Sequence[str]) -> None:
    """Print the help of a command, with the values that its overrides give.

    Args:
        config_name: the command's name.
        arguments: of its command line.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config-dir", "-cd", type=Path)
    known, rest = parser.parse_known_args(arguments)
    folders = [CONF_DIR] if known.config_dir is None else [CONF_DIR, known.config_dir.absolute()]
    overrides = [argument for argument in rest if not argument.startswith("-")]
    overrides += [f"hydra.searchpath=[file://{folder}]" for folder in folders[1:]]
    with hydra.initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        composed = hydra.compose(config_name, overrides, return_hydra_config=True)
    template = string.Template(composed.hydra.help.template)
    with open_dict(composed):
        del composed["hydra"]
    try:
        print(template.substitute(APP_CONFIG_GROUPS=_groups(folders), CONFIG=OmegaConf.to_yaml(composed)), flush=True)
    except BrokenPipeError:  # --help | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _groups(folders: Sequence[Path]) -> str:
    """A line for each group, with its options."""
    options: dict[str, set[str]] = {}
    for folder in folders:
        for file in folder.rglob("*.yaml"):
            group = file.parent.relative_to(folder).as_posix()
            if group.partition("/")[0] not in (".", "hydra"):
                options.setdefault(group, set()).add(file.stem)
    return "".join(f"{group}: {', '.join(sorted(names))}\n" for group, names in sorted(options.items()))
