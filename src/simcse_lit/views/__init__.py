"""From a row of text to the views of an example: makers, augmentation, next sentences, replacement by a language model."""
