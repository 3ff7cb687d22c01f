"""Mutants of the rooms that users believe: faults put in by hand, one at a time, to see which test notices."""
