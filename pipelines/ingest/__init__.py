"""Adding corpora: what layout a folder has, its lines, copies of its recordings, and what an update changes."""
