"""Training data: the tokenised corpus, its order, collation, streams, and the DataModule."""
