"""Training: the LightningModule, chunks and the gradient cache, the optimiser, callbacks, checkpoints and the trainer."""
