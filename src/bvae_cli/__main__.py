"""``python -m bvae_cli``."""

from bvae_cli.cli import main

main()
