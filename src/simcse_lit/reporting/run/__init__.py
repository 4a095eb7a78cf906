"""Output of one run or evaluation: messages, figures, the files of its folder, and Weights & Biases."""
