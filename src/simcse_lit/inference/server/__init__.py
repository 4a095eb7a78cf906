"""The page and the JSON API of `python -m simcse_lit.serve`."""
