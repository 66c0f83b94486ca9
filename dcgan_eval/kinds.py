"""The kinds of features that a user can name; here, because `--help` must not wait for torch."""

KINDS = ("disc:CHECKPOINT", "inception", "random:PRESET", "kmeans:UNITS", "torchvision:NAME", "module:FILE", "pixels")
NO_ARGUMENT = ("inception", "pixels")
PRECISIONS = {"disc", "random", "inception"}  # whose convolutions may run in bfloat16
FITTED = {"random", "kmeans"}  # to the real images, as is a disc: whose BatchNorm is re-estimated
