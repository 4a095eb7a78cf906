"""The tokenised corpus, its order, collation, streams, and the DataModule."""
