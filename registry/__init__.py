"""The lifecycle of models: which stage each one is in."""
