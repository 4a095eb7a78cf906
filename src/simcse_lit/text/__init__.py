"""Rows of any file or Hub data set. Every verb reads text through this package."""
