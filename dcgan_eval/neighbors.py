"""Nearest neighbours by brute force, in blocks."""

import torch
from torch import Tensor

QUERIES = 256  # queries compared at a time
VALUES = 2**24  # values of the database read at a time


def k_nearest(queries: Tensor, database: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Euclidean distances, float32 (q, k) ascending, and rows, int64 (q, k), of each query's k nearest neighbours.

    queries (q, d), database (n, d): float32 on one device. Both are centred on a mean of the database, which keeps
    digits in ‖a‖² − 2ab + ‖b‖². Equal distances are ordered by row.
    Raises ValueError unless 1 ≤ k ≤ n and both have the same d.
    """
    n, d = database.shape
    if not 1 <= k <= n or queries.shape[1] != d:
        raise ValueError(f"k={k}, queries {tuple(queries.shape)} and database {tuple(database.shape)} do not fit")
    mean = database[:: max(1, n // 1000)].mean(0)
    a = queries - mean
    best = torch.empty(len(a), 0, device=a.device)
    rows = torch.empty(len(a), 0, dtype=torch.int64, device=a.device)
    for start in range(0, n, max(k, VALUES // d)):
        b = database[start : start + max(k, VALUES // d)] - mean
        norms = b.square().sum(1)
        near, here = [], []
        for q in torch.split(a, QUERIES):
            square = torch.addmm(norms, q, b.T, alpha=-2)
            values, index = square.topk(min(k, len(b)), largest=False)
            near.append(values)
            here.append(index + start)
        best, rows = torch.cat([best, torch.cat(near)], 1), torch.cat([rows, torch.cat(here)], 1)
        by_row = rows.argsort(1)
        best, rows = best.gather(1, by_row), rows.gather(1, by_row)
        order = best.argsort(dim=1, stable=True)[:, :k]
        best, rows = best.gather(1, order), rows.gather(1, order)
    return (best + a.square().sum(1, keepdim=True)).clamp_min_(0).sqrt_(), rows
