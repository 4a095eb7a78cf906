"""One run: console, curves, figures, run folder, W&B."""
