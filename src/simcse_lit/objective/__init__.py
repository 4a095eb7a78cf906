"""The training objectives as tensor functions: no Hydra, no Lightning, no I/O."""
