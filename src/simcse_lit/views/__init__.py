"""What turns a row into anchor, positive and hard negatives: augmentation, next sentences, replacement."""
