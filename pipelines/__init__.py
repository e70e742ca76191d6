"""The steps as plain functions: corpus, transcribe, normalize, score, compare, gate, report."""
