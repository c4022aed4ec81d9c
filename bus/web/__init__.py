"""The edges: HTTP in, problems out. They parse, call and render, nothing more."""
