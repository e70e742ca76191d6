"""Serving promoted models over HTTP."""
