"""Prefect flows: compose, retry, schedule. No logic of their own."""
