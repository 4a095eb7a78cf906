"""SentenceEncoder (backbone, pooler, projection), and the LightningModule that owns objective and optimisation."""
