"""`python -m dcgan_eval`: the command, where it is not installed."""

from dcgan_eval.cli import main

main()
