"""`dcgan-eval` on ranks of which the second kills itself: in its second file of features, in the SVM, or nowhere.

    torchrun --nproc-per-node N -m tests.killed_rank WHERE LOG ARGUMENTS

LOG: gets a line for every file of features that was finished here, and how many of its rows were computed for that.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from torch import Tensor

from dcgan_eval import cli
from dcgan_eval.features import store
from dcgan_eval.linear import newton
from dcgan_eval.linear import path as solver

Blocks = Callable[[int], Iterator[Tensor]]


def main() -> None:
    where, log, *arguments = sys.argv[1:]
    is_victim = os.environ["RANK"] == "1" and where != "nowhere"
    complete, solve, files = store.complete, newton.newton, []

    def dies() -> None:
        time.sleep(1)  # the others have something finished, or wait
        os.kill(os.getpid(), signal.SIGKILL)

    def counted(path: Path, shape: tuple[int, int], group: int, blocks: Blocks) -> None:
        files.append(path)
        rows = 0

        def seen(done: int) -> Iterator[Tensor]:
            nonlocal rows
            for block in blocks(done):
                rows += len(block)
                yield block
                if is_victim and where == "extraction" and len(files) == 2:
                    dies()

        was_there = path.exists()
        complete(path, shape, group, seen)
        if not was_there:
            with open(log, "a") as file:
                file.write(f"{path.name} {rows}\n")
        if where == "extraction":
            time.sleep(0.3)

    def solved(*rest: object) -> object:
        if is_victim and where == "collective":
            dies()
        return solve(*rest)  # type: ignore[arg-type]

    store.complete, solver.newton = counted, solved  # type: ignore[assignment, attr-defined]
    cli.main(arguments)


if __name__ == "__main__":
    main()
