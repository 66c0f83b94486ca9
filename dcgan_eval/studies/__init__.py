"""What the networks learnt, studied: pictures, each with a row of numbers.

A module per study: walk, arithmetic, turn, filters, forget. They make images and figures, and touch no metric.
"""
