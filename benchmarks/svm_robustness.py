"""Claim: L2SVC certifies problems as they should not be, in every precision that some machine multiplies in.

    python -m benchmarks.svm_robustness [--problems 200] [--paths 100]

Problems: 2 to 60 classes, 2 to 4,000 rows, 1 to 8,192 columns, C from 1e-8 to 1e4, columns of unequal scale, constant,
repeated or empty ones, repeated rows, separable and unbalanced classes (tests/svm_problems.py). The first `--problems`
are solved as this machine does, the first `--paths` of smaller ones by every path of tests/svm_paths.py, low precisions
emulated. A time is an outlier above ten times the median of problems of its size: the same power of ten of rows ×
columns × classes. Exits 1 for a solution that is not finite, or not certified.
"""

import argparse
import statistics
import sys
import time
from collections import defaultdict

import torch

from benchmarks.measure import header
from dcgan_eval.linear import Solution, SquaredHinge, solve_path
from dcgan_eval.runtime.errors import UncertifiedError
from dcgan_eval.runtime.fast_ops import instruction_set
from tests.svm_paths import PATHS, path
from tests.svm_problems import Problem, drawn, objectives


def solved(problem: Problem, name: str) -> tuple[Solution | None, float]:
    """None, and a line, for what has no finite solution."""
    with path(name):
        start = time.perf_counter()
        try:
            loss = SquaredHinge(problem.signs, torch.ones_like(problem.signs))
            solution = next(solve_path(problem.X, loss, [problem.C]))
        except UncertifiedError as error:
            print(f"not finite, {name}, {error}: {problem.what}")
            solution = None
        return solution, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--paths", type=int, default=100)
    a = parser.parse_args()
    print(f"{header()}; {instruction_set()}")
    by_size: dict[int, list[tuple[float, Problem]]] = defaultdict(list)
    failed = 0
    for seed in range(a.problems):
        problem = drawn(seed)
        solution, seconds = solved(problem, "as here")
        if solution is None:
            failed += 1
            continue
        by_size[len(str(problem.X.numel() * problem.classes))].append((seconds, problem))
        if not solution.converged:
            failed += 1
            print(f"not certified, {float(solution.relative_gap.max()):.0e} of the optimum: {problem.what}")
    print(f"{a.problems} problems: {a.problems - failed} certified to 1e-6")
    for digits, some in sorted(by_size.items()):
        median = statistics.median(seconds for seconds, _ in some)
        slow = [(s, problem) for s, problem in some if s > 10 * max(median, 0.01)]
        print(f"  below 1e{digits} values × classes: {len(some)} problems, median {median:.2f} s, "
              f"longest {max(s for s, _ in some):.2f} s")  # fmt: skip
        for seconds, problem in slow:
            print(f"    outlier, {seconds:.2f} s: {problem.what}")
    least: dict[int, torch.Tensor] = {}
    counts = dict.fromkeys(PATHS, 0)
    farthest = 0.0
    for seed in range(a.paths):
        problem = drawn(seed, most_rows=600, most_columns=2000, most_values=2**18)
        for name in PATHS:
            solution, _ = solved(problem, name)
            if solution is None:
                failed += 1
                continue
            values = torch.from_numpy(objectives(problem, solution.coef, solution.intercept))
            least.setdefault(seed, values)
            farthest = max(farthest, float(((values - least[seed]).abs() / least[seed]).max()))
            counts[name] += solution.converged
            failed += not solution.converged
    for name, count in counts.items():
        print(f"{a.paths} smaller problems, {name}: {count} certified")
    print(f"objectives by different paths differ by at most {farthest:.1e} of them")
    sys.exit(int(failed > 0))


if __name__ == "__main__":
    main()
