"""Encoding outside training: encoder passes, a pool of devices, files of vectors, a cache of vectors."""
