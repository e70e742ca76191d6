"""Checking a corpus before it is trusted: what is measured of its files, the suites of expectations, and their results.

Great Expectations is imported in this package only, and only where a suite runs: importing it takes seconds.
"""
