"""Checks of the composed configuration, one file for each verb. Imports no torch."""
