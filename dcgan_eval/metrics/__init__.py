"""Distances between sets of features, one file each: a pure function, and an accumulator that streams."""
