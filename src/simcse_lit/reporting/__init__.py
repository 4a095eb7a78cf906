"""What people look at: tables, figures, W&B. Reads results; computes no scores."""
