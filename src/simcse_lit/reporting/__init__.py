"""Messages, tables and figures of one run (`run/`) and of a sweep (`sweep/`). No score is computed here."""
