"""The command line: finds the verb, composes and checks its configuration, and explains mistakes on one screen."""
