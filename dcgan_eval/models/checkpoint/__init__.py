"""Files of weights ↔ networks: ours (safetensors), the authors' (.jl with .npy beside), pytorch/examples' (.pth).

Nothing is unpickled.
"""

from dcgan_eval.models.checkpoint.contents import Checkpoint
from dcgan_eval.models.checkpoint.description import describe
from dcgan_eval.models.checkpoint.native import save
from dcgan_eval.models.checkpoint.opening import EMBEDDED, convert, load

__all__ = ["EMBEDDED", "Checkpoint", "convert", "describe", "load", "save"]
