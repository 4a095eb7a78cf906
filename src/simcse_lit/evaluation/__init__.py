"""Scores of a sentence encoder: the STS sets of the paper and how they are computed."""
