"""What a person sees: of one run (`run/`) and of a sweep (`sweep/`)."""
