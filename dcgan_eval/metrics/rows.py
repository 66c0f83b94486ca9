"""Features themselves, gathered from batches and ranks: what metrics rest on that have no smaller statistics."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class FeatureAccumulator(Metric):
    """Keeps features in the order of their rows, whatever the batches and ranks that they came in.

    On several ranks a row that came twice, as samplers pad with, counts once.
    """

    full_state_update = False
    features: Any
    rows: Any

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.add_state("features", [], dist_reduce_fx="cat")
        self.add_state("rows", [], dist_reduce_fx="cat")

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """A rank without rows must gather what the others do: float32 (0, d) and int64 (0,)."""
        if isinstance(self.rows, list) and not self.rows:
            self.features.append(torch.empty(0, self.dimensions, device=self.device))
            self.rows.append(torch.empty(0, dtype=torch.int64, device=self.device))
        super().sync(*args, **kwargs)

    def update(self, features: Tensor, rows: Tensor) -> None:
        """features: float32 (b, d); rows: int64 (b,), which image of the whole set each belongs to."""
        if features.shape != (len(rows), self.dimensions):
            raise ValueError(f"features {tuple(features.shape)} of {len(rows)} images, want {self.dimensions} of each")
        self.features.append(features.to(self.device))
        self.rows.append(rows.to(self.device))

    def compute(self) -> Tensor:
        """float32 (n, d)."""
        features, rows = (
            torch.cat(state) if isinstance(state, list) and state else state for state in (self.features, self.rows)
        )
        if not isinstance(rows, Tensor):
            return torch.empty(0, self.dimensions, device=self.device)
        order = rows.argsort(stable=True)
        in_order = rows[order]
        first = torch.ones_like(in_order, dtype=torch.bool)
        first[1:] = in_order[1:] != in_order[:-1]
        return features[order[first]]
