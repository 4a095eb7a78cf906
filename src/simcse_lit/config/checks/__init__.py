"""What a configuration must satisfy, a file a verb. Imports no torch."""
