"""SimCSEModule, chunks and the gradient cache, callbacks, checkpoints, the trainer."""
