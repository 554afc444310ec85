"""One verb per file; stages meet in files and never import one another."""
