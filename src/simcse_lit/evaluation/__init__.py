"""Scores and analyses of sentence encoders: vectors in, numbers out. `reporting/` shows and writes these numbers."""
