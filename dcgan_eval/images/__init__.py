"""Sources of images: named data sets, folders, .zip and .npz files, samples of a generator.

Whatever the source, images are uint8 (n, C, H, W) tensors on the CPU with C = 1 (grey) or 3 (RGB) and one size,
in a fixed order. Nothing is resized or unpickled, and no archive that is given is extracted to disk.
"""

from dcgan_eval.images.fitting import fitted, min_resized
from dcgan_eval.images.opening import only_split, open_images, open_split
from dcgan_eval.images.source import BLOCK, Images, Rows, Survey, from_tensor, generated, most_common_shape

__all__ = [
    "BLOCK",
    "Images",
    "Rows",
    "Survey",
    "fitted",
    "from_tensor",
    "generated",
    "min_resized",
    "most_common_shape",
    "only_split",
    "open_images",
    "open_split",
]
