"""An example of a package that extends simcse-lit; docs/extending/index.md explains each part."""
