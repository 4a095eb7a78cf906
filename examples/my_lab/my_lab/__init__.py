"""An example of a package that extends simcse-lit; docs/extending.md explains each part."""
