"""Sentences to vectors outside training: passes, a pool of devices, files of vectors, a cache."""
