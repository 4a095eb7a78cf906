"""An example of a package that extends simcse-lit. The pages of docs/extending/ explain each part."""
