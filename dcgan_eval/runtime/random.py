"""Independent random streams, found again by name: what resumes or is read in any order needs no generator's state."""

import hashlib

import torch


def stream(seed: int, *name: object) -> torch.Generator:
    """A CPU generator that depends on the seed and the name alone: equal arguments, equal numbers."""
    digest = hashlib.sha256(repr((seed, *name)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
