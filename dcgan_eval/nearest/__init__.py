"""Nearest neighbours, exact: in memory, over a stream of images, and among binary codes."""
