"""What a user can choose between, each choice declared once; free of torch, since `--help` must not wait for it."""

from typing import Literal

# features
KINDS = ("disc:CHECKPOINT", "inception", "random:PRESET", "kmeans:UNITS", "torchvision:NAME", "module:FILE", "pixels")
NO_ARGUMENT = ("inception", "pixels")
PRECISIONS = {"disc", "random", "inception"}  # whose convolutions may run in bfloat16
FITTED = {"random", "kmeans"}  # to the real images, as is a disc: whose BatchNorm is re-estimated

Precision = Literal["float32", "bfloat16"]  # of a network's convolutions
Resize = Literal["tf1", "clean"]  # of images, for Inception
BatchNormMode = Literal["stored", "batch", "reestimated"]  # whose statistics BatchNorm normalises by
BatchNormChoice = Literal["auto", "stored", "batch", "reestimated"]

# the other commands
DuplicateMethod = Literal["autoencoder", "paper", "exact", "phash"]
DirectionMethod = Literal["mean", "svm"]  # how a latent direction comes from two groups
Interpolation = Literal["straight", "spherical"]
Network = Literal["generator", "discriminator"]
StoredPrecision = Literal["float32", "bfloat16", "float16"]  # of arrays in a file
Format = Literal["table", "json", "csv"]
ReportFormat = Literal["table", "md", "latex", "html", "csv", "json"]
