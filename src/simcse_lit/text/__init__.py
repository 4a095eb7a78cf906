"""Rows of any file or Hub data set; every verb reads text through it."""
