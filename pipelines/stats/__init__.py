"""Statistics for the gate: intervals, paired comparisons, tests and planning. Arrays in, frozen results out."""
