"""What is on a disk or on the Hub: loading any encoder, and writing each format."""
