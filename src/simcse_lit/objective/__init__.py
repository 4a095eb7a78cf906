"""The training objectives as tensor functions, without Hydra, Lightning, files or a network."""
