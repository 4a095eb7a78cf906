"""The index: exact and approximate search in a folder of vectors."""
