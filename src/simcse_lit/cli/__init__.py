"""The front end: finds the verb, composes its configuration, checks it, and answers mistakes in one screen."""
