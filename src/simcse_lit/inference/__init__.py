"""Using a trained encoder: saving and loading it, and encoding sentences."""
