"""From a file or the Hub to batches of token ids: sources, NLI triplets, tokenisation with its cache, collation."""
