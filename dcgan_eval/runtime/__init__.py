"""The machine that numbers are computed on: its instructions, its precisions, and arithmetic that is alike on all."""
