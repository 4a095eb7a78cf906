"""Encoders on disk and on the Hub: loads any of them, and writes each format."""
