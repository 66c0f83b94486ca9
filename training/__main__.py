"""`python -m training PRESET --data DATA --out FOLDER`, alone or under torchrun."""

import argparse
import logging
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

from dcgan_eval.runtime.errors import InputError, RankLostError, as_typed
from training.config import PRESETS, options, override, preset


class Parser(argparse.ArgumentParser):
    """Errors are one line, like the others."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (python -m training --help lists the flags)")


def parser() -> Parser:
    parser = Parser(
        prog="python -m training",
        description="Fit a DCGAN. Any field of a recipe can be overridden by its flag.",
        allow_abbrev=False,
    )
    parser.add_argument("preset", metavar="PRESET", help=", ".join(PRESETS))
    run = parser.add_argument_group("the run")
    run.add_argument(
        "--data",
        default="digits",
        help="training images, in the notation of dcgan-eval; of several splits the train split [%(default)s]",
    )
    run.add_argument(
        "--keep-list", type=Path, help="file keep.json of `dcgan-eval dedup`: train on the images that it lists"
    )
    run.add_argument(
        "--data-root", type=Path, default=Path("data"), help="directory of the named datasets [%(default)s]"
    )
    run.add_argument("--download", action="store_true", help="download missing datasets and weights")
    run.add_argument("--out", type=Path, help="folder of the run [runs/PRESET]")
    run.add_argument("--resume", action="store_true", help="resume the run in --out")
    run.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    run.add_argument("--device", default="auto", help="device to compute on: auto, cpu, cuda or mps [%(default)s]")
    run.add_argument("--save-minutes", type=float, default=5.0, help="minutes between two saved states [%(default)g]")
    run.add_argument("--keep", type=int, default=2, help="number of saved states to keep [%(default)d]")
    run.add_argument(
        "--sample-epochs", type=float, help="epochs between two grids of samples [1, or as many as make 50 grids]"
    )
    run.add_argument(
        "--evaluate-epochs", type=float, default=0.0, help="epochs between two evaluations; 0 for none [%(default)g]"
    )
    run.add_argument(
        "--evaluate-fid", action="store_true", help="with --evaluate-epochs: also report FID, with Inception's weights"
    )
    run.add_argument("--tensorboard", action="store_true", help="also write TensorBoard events")
    run.add_argument("--debug", action="store_true", help="show the traceback of an error")
    recipe = parser.add_argument_group("the recipe", "defaults are the preset's")
    for option in options():
        flag = f"--{option.name.replace('_', '-')}"
        common: dict[str, Any] = {"dest": f"recipe.{option.name}", "default": None, "help": option.help}
        if option.kind is bool:
            recipe.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
        elif get_origin(option.kind) is Literal:
            recipe.add_argument(flag, choices=get_args(option.kind), **common)
        else:
            recipe.add_argument(flag, type=_reader(option.kind), **common)
    return parser


def _reader(kind: Any) -> Callable[[str], Any]:
    """int, float, or a tuple of one type, written with commas."""
    if get_origin(kind) is not tuple:
        return kind
    each = get_args(kind)[0]

    def values(text: str) -> tuple[Any, ...]:
        return tuple(each(part) for part in text.split(",")) if text else ()

    return values


def run(arguments: argparse.Namespace) -> int:
    import torch

    from dcgan_eval.evaluations.dedup import kept
    from dcgan_eval.features import inception_features
    from dcgan_eval.images import open_images
    from dcgan_eval.inputs import training_split
    from dcgan_eval.runtime import devices
    from dcgan_eval.runtime.ranks import joined
    from training.loop import train
    from training.plan import plan

    config = override(
        preset(arguments.preset),
        {k.removeprefix("recipe."): v for k, v in vars(arguments).items() if k.startswith("recipe.") and v is not None},
    )
    if arguments.evaluate_fid and not arguments.evaluate_epochs:
        raise InputError("--evaluate-fid: needs --evaluate-epochs, which says when")
    device = torch.device(devices.choose(arguments.device))
    found = open_images(arguments.data, root=arguments.data_root, download=arguments.download)
    images = training_split(arguments.data, found)
    held_out = next((found[s] for s in ("valid", "test") if s in found and found[s] is not images), None)
    if arguments.keep_list is not None:
        images = kept(images, arguments.keep_list)
    if arguments.dry_run:
        print(plan(config, images, device))
        return 0
    out = arguments.out or Path("runs") / arguments.preset
    torch.backends.cudnn.benchmark = True  # all minibatches are of one size
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    with joined(device) as (here, own):
        finished = train(
            config,
            images,
            out,
            device=own,
            ranks=here,
            resume=arguments.resume,
            save_minutes=arguments.save_minutes,
            keep=arguments.keep,
            sample_epochs=arguments.sample_epochs,
            evaluate_epochs=arguments.evaluate_epochs,
            extractor=inception_features(download=arguments.download) if arguments.evaluate_fid else None,
            held_out=held_out,
            progress=here.first and sys.stderr.isatty(),
            tensorboard=arguments.tensorboard,
        )
        if here.first:
            how = f"wrote {out / 'last.safetensors'}" if finished else "stopped and saved; go on with --resume"
            print(f"{out}: {how}", file=sys.stderr)
    return 0 if finished else 130


def main(argv: list[str] | None = None) -> int:
    """Exit 0: done; 2: the input is at fault, said in one line; 1: our fault; 130: stopped early and saved."""
    argv = sys.argv[1:] if argv is None else argv
    names: set[str] = set()  # of the options, as messages call them
    try:
        arguments = parser().parse_args(argv)
        names = {name.removeprefix("recipe.") for name in vars(arguments)}
        return run(arguments)
    except InputError as error:
        if "--debug" in argv:
            traceback.print_exc()
        print(f"training: {' '.join(as_typed(str(error), names).split())}", file=sys.stderr)
        return 2
    except RankLostError as error:
        print(f"training: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("training: interrupted; what was saved stays", file=sys.stderr)
        return 130
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":
            raise
        print("training: out of GPU memory; lower --batch-size, or the channels of the networks", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
