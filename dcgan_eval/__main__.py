"""`python -m dcgan_eval`: the command, for torchrun and for checkouts that are not installed."""

from dcgan_eval.cli import main

main()
