"""From what a user writes to sources of images."""

import re
from pathlib import Path

from dcgan_eval.images.encoded import folder_files, open_files, zip_files
from dcgan_eval.images.named import SETS, named_splits, open_named
from dcgan_eval.images.npz import open_npz
from dcgan_eval.images.source import Images, reading, split_name, split_order
from dcgan_eval.runtime.errors import InputError, nearest


def open_images(spec: str, *, root: Path | str = Path("data"), download: bool = False) -> dict[str, Images]:
    """Every split of a source, or the one that `spec` names: {'train': ..., 'test': ...}, {'all': ...}.

    spec: NAME[:split] of a named set (`SETS`, whatever the case and hyphens), or PATH[:split] of a folder, .zip or
        .npz. A name wins over a path: write ./digits for a folder called digits.
        Folders and .zip: [SPLIT/]CLASS/FILE, [SPLIT/]FILE, or a labels.csv (columns file, label, optional split; it
        sets the order, otherwise names are sorted), all perhaps inside one folder. Grey images in an RGB source (one
        whose first image is RGB) are replicated to three channels.
        .npz: x_train, y_train, x_test, y_test; or x, y; or images, labels; or arr_0. Images uint8 NHWC, NCHW or NHW.
        Further columns of labels.csv, and further arrays of an .npz with a value for each image (src_train beside
        x_train, src beside x), are `Images.metadata` by their names, such as src.
    root: the folder of the named sets, in torchvision's layout; `download` fetches what is missing into it.
        'digits' comes with scikit-learn; 'extra', 'unlabeled' and 'all' of the others open only when asked for.
    Raises InputError for everything that is wrong with the input; a broken image may only be found when it is read.
    """
    named, path, split = _resolve(spec)
    if named:
        root = Path(root)
        return {s: open_named(named, s, root, download) for s in named_splits(named, split, root)}
    if path.suffix.lower() == ".npz":
        found = open_npz(path)
    elif path.suffix.lower() == ".zip":
        found = open_files(zip_files(path), path)
    elif path.is_dir():
        found = open_files(folder_files(path), path)
    else:
        raise InputError(f"{path}: not a folder, .zip or .npz; give one of these")
    if split and split not in found:
        raise InputError(f"{path}: no split {split!r}{nearest(split, list(found))}")
    return {split: found[split]} if split else dict(sorted(found.items(), key=lambda item: split_order(item[0])))


def open_split(spec: str, *, root: Path | str = Path("data"), download: bool = False) -> Images:
    """The one split that `spec` names, or the only one there is; as `open_images`. InputError where it is open."""
    return only_split(spec, open_images(spec, root=root, download=download))


def only_split(spec: str, found: dict[str, Images]) -> Images:
    """The one split of a source that is open. InputError where there are several."""
    if len(found) > 1:
        raise InputError(f"{spec}: has the splits {', '.join(found)}; say which, e.g. {spec}:{next(iter(found))}")
    return next(iter(found.values()))


def _plain(name: str) -> str:
    return re.sub("[-_]", "", name.lower())


def _resolve(spec: str) -> tuple[str, Path, str]:
    """(named set or '', path, split or '')."""
    if spec.startswith("gen:") or not spec:
        raise InputError(f"{spec!r} is not a data set; give the name of one, a folder, a .zip or a .npz")
    head, _, split = spec.rpartition(":") if ":" in spec else (spec, "", "")
    named = next((name for name in SETS if _plain(name) == _plain(head)), "")
    if named:
        return named, Path(), split_name(split)
    with reading(repr(spec[:100])):  # a path may be too long, or hold a NUL
        if Path(spec).exists():
            return "", Path(spec), ""
        if split and Path(head).exists():
            return "", Path(head), split_name(split)
    raise InputError(
        f"{spec!r}: no such file or folder, nor a data set{nearest(head.lower(), [n.lower() for n in SETS])}"
    )
