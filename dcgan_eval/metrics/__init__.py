"""Distances between sets of features, one file each: a pure function, and sums that batches add up to."""
