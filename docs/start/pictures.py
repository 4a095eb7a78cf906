"""Make the pictures of README.md and docs/start/ from a run and a sweep that you have trained.

The run and the sweep are those of the quickstart: miniatures, and the picture of the sweep says so.

Run:
  simcse-lit train experiment=quickstart hydra.run.dir=outputs/first
  simcse-lit train -m experiment=quickstart loss.temperature=0.05,0.1,0.2 seed=1,2 hydra.sweep.dir=multirun/temperature
  simcse-lit report multirun/temperature
  python docs/start/pictures.py outputs/first multirun/temperature
"""

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

HERE = Path(__file__).resolve().parent
FIGURES = ("training_curve.png", "alignment_uniformity.png")  # of a run
WIDTH, HEIGHT = 900, 1000  # of the part of the report that is shown
NOTE = "A miniature: three layers that were trained on sentences before, bundled text, two seeds. Not a result of the paper."


def small(picture: Image.Image, path: Path, width: int) -> None:
    """Write a picture with a palette of 64 colours, not wider than `width`."""
    rgb = picture.convert("RGB")
    if rgb.width > width:
        rgb = rgb.resize((width, round(rgb.height * width / rgb.width)), Image.Resampling.LANCZOS)
    rgb.quantize(64).save(path, optimize=True)
    print(f"{path.relative_to(HERE.parent.parent)}: {path.stat().st_size / 1000:.0f} kB")


def report(sweep: Path) -> Image.Image:
    """The top of the report of a sweep as a browser shows it, below a note that it is a miniature."""
    page = (sweep / "report" / "report.html").resolve()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light", device_scale_factor=1.5)
        shown.goto(page.as_uri())
        shown.evaluate(
            """note => {
                const line = document.createElement("p");
                line.textContent = note;
                line.style.cssText = "margin:0 0 16px;max-width:none;padding:8px 16px;" +
                    "background:#fff3cd;color:#000;font:15px sans-serif";
                document.body.prepend(line);
            }""",
            NOTE,
        )
        taken = shown.screenshot()
        browser.close()
    return Image.open(io.BytesIO(taken))


def main() -> None:
    """Write the pictures beside this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the run folder of the quickstart")
    parser.add_argument("sweep", type=Path, nargs="?", help="a folder of a sweep, with its report/")
    arguments = parser.parse_args()
    for name in FIGURES:
        small(Image.open(arguments.run / name), HERE / name, 800)
    if arguments.sweep:
        small(report(arguments.sweep), HERE / "report.png", WIDTH)


if __name__ == "__main__":
    main()
