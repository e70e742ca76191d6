"""Degraded variants of a corpus: the same recordings through noise, rooms, telephones, codecs and worse."""
