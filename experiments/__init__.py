"""The paper's experiments: a folder for each table or figure, and the evidence of the miniatures.

`run` trains what `rows.csv` lacks, `verdicts` judges the claims of `claims.yaml`, `evidence` writes the pages, and `again`
trains the most important claims anew. `protocol` trains SimCSE and its successors, and `methods` writes their tables.
"""
