"""Nearest neighbours by brute force, in blocks."""

import torch
from torch import Tensor

QUERIES = 256  # queries compared at a time
VALUES = 2**24  # values of the database read at a time
SPARE = 16  # candidates beyond k, for those that rounding has put behind others


def k_nearest(queries: Tensor, database: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Euclidean distances, float32 (q, k) ascending, and rows, int64 (q, k), of each query's k nearest neighbours.

    queries (q, d), database (n, d): float32 on one device. Both are centred on a mean of the database, which keeps
    digits in ‖a‖² − 2ab + ‖b‖²; the k + SPARE nearest by that are then measured by ‖a − b‖. Equal distances are ordered
    by row; of more than SPARE copies of one row, any may be found.
    Raises ValueError unless 1 ≤ k ≤ n and both have the same d.
    """
    n, d = database.shape
    if not 1 <= k <= n or queries.shape[1] != d:
        raise ValueError(f"k={k}, queries {tuple(queries.shape)} and database {tuple(database.shape)} do not fit")
    candidates = min(n, k + SPARE)
    mean = database[:: max(1, n // 1000)].mean(0)
    best = torch.empty(len(queries), 0, device=queries.device)
    rows = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    for start in range(0, n, max(candidates, VALUES // d)):
        b = database[start : start + max(candidates, VALUES // d)] - mean
        norms = b.square().sum(1)
        near, here = [], []
        for q in torch.split(queries, QUERIES):
            square = torch.addmm(norms, q - mean, b.T, alpha=-2)
            values, index = square.topk(min(candidates, len(b)), largest=False)
            near.append(values)
            here.append(index + start)
        best, rows = _ordered(torch.cat([best, torch.cat(near)], 1), torch.cat([rows, torch.cat(here)], 1), candidates)
    step = max(1, VALUES // (candidates * d))
    pairs = zip(torch.split(queries, step), torch.split(rows, step), strict=True)
    return _ordered(torch.cat([(q[:, None] - database[r]).square().sum(2).sqrt() for q, r in pairs]), rows, k)


def _ordered(values: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k smallest values and their rows; equal values by row."""
    by_row = rows.argsort(1)
    values, rows = values.gather(1, by_row), rows.gather(1, by_row)
    order = values.argsort(dim=1, stable=True)[:, :k]
    return values.gather(1, order), rows.gather(1, order)
