"""One file an engine; each imports its library inside its constructor."""
