"""Executes the tutorials, each in an empty folder, and writes their outputs into them.

    python docs/tutorials/run.py [NAME ...]

`make notebooks` runs all of them. `tests/docs/test_notebooks.py` executes them too, and writes nothing.
"""

import base64
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).resolve().parent
LIMIT_S = 600  # of a cell
WIDTH, COLOURS = 900, 64  # of a stored picture: a clone stays small
# What tqdm says where Jupyter has no widgets, in two lines, and torch's exporter where torchvision is not installed.
NOISE = re.compile(r"[^\n]*TqdmWarning[^\n]*\n[^\n]*autonotebook[^\n]*\n|[^\n]*torchvision is not installed[^\n]*\n")
HIDDEN = ("SIMCSE_DATA", "HF_", "WANDB_", "HYDRA_", "COLUMNS")  # variables that would change what a command does


def names() -> list[str]:
    """The tutorials, by name."""
    return sorted(path.stem for path in HERE.glob("*.ipynb"))


def executed(name: str, folder: Path) -> Any:
    """The notebook of a tutorial, with the outputs of an execution in this folder.

    Raises:
        CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(HERE / f"{name}.ipynb", as_version=4)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(HIDDEN)}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    environment.setdefault("OMP_NUM_THREADS", "1")  # the numbers then depend less on the machine
    environment["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    client = NotebookClient(notebook, timeout=LIMIT_S, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment)
    return notebook


def clean(notebook: Any, folder: Path) -> None:
    """Leave nothing of this machine and of the execution in a notebook."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python", "pygments_lexer": "ipython3"},
    }
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata = {key: value for key, value in cell.metadata.items() if key != "execution"}
        merge(cell)
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                output.text = shown(output.text, folder)
            for kind, text in output.get("data", {}).items():
                if kind.startswith("text/"):
                    output.data[kind] = shown(text, folder)
                elif kind == "image/png":
                    output.data[kind] = small(text)
        if "outputs" in cell:
            cell.outputs = [each for each in cell.outputs if each.output_type != "stream" or each.text.strip()]


def merge(cell: Any) -> None:
    """Put the pieces of a stream that follow each other into one."""
    outputs: list[Any] = []
    for output in cell.get("outputs", []):
        last = outputs[-1] if outputs else None
        if last is not None and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            outputs.append(output)
    if "outputs" in cell:
        cell.outputs = outputs


def shown(text: str, folder: Path) -> str:
    """A text as a terminal shows it in the end, with paths as a reader in the folder would write them."""
    for place in sorted({str(folder), str(folder.resolve())}, key=len, reverse=True):
        text = text.replace(f"{place}/", "").replace(place, ".")
    text = re.sub(r"/[^\s'\"()]*/(site-packages|src)/(?=\w)", "", text)  # where Python's packages are
    text = text.replace(str(Path.home()), "~")
    lines = (line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n"))
    return NOISE.sub("", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", "\n".join(lines)))


def small(picture: str) -> str:
    """A PNG, in base64, at most so wide and of few colours."""
    image = Image.open(BytesIO(base64.b64decode(picture))).convert("RGB")
    image.thumbnail((WIDTH, 2 * WIDTH))
    file = BytesIO()
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def main(chosen: Sequence[str]) -> None:
    """Execute tutorials in place; without names, all of them."""
    for name in chosen or names():
        with tempfile.TemporaryDirectory(prefix="tutorial-") as folder:
            notebook = executed(name, Path(folder))
            clean(notebook, Path(folder))
        nbformat.write(notebook, HERE / f"{name}.ipynb")
        print(f"{name}: {len(notebook.cells)} cells")


if __name__ == "__main__":
    main(sys.argv[1:])
