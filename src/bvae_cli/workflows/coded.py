"""The code that a person names, by a model's weights or by name and size, and the files of its codes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bvae_cli import devices, processor
from bvae_cli.code_rows import CodeRows, open_codes
from bvae_cli.codes.base import Code
from bvae_cli.config import PluginRef
from bvae_cli.errors import UsageError
from bvae_cli.model.bvae import BinaryVAE
from bvae_cli.trained import CodesChoice
from bvae_cli.workflows.building import build_code, load_model
from bvae_cli.workflows.measuring import find_weights


@dataclass(frozen=True)
class Coded:
    """A code, and the model around it, where there is one, with the place of its weights."""

    code: Code
    model: BinaryVAE | None = None
    weights: Path | None = None
    device: str = "cpu"

    @property
    def label(self) -> str:
        """The code as --ecc takes it."""
        spec = self.code.spec
        return PluginRef(type=spec.family, options=spec.told_options()).shown()

    @property
    def owner(self) -> str:
        """Whose codes these are, in a sentence."""
        return f"the model in {self.weights}" if self.weights is not None else f"{self.label} (N={self.code.n})"

    def open(self, path: Path, bits: int | None) -> CodeRows:
        """Open a file of information bits or of codewords of the code. Raises BvaeError as ``open_codes`` does.

        ``bits`` says which of both, where a file can be read in two ways; UsageError where it is neither.
        """
        widths = {"code bits": self.code.n}
        if self.code.k != self.code.n:
            widths["information bits"] = self.code.k
        if bits is not None:
            widths = {name: width for name, width in widths.items() if width == bits}
            if not widths:
                raise UsageError(
                    f"--bits {bits} is no length of {self.owner}.",
                    f"It has {self.code.k} information bits and {self.code.n} code bits.",
                )
        return open_codes(path, widths, self.owner)


def coded(config: CodesChoice, named: frozenset[str], *, with_model: bool) -> Coded:
    """Return the code that ``config`` names: that of the weights, or the code itself, for which no weights are needed.

    Raises UsageError, InputOutputError, PluginError where it cannot be had.
    """
    if not with_model and config.weights is None:
        return Coded(build_code(config.ecc, config.sizes.latent))
    device = devices.choose(config.device, "off").device
    processor.prepare(config.threads)
    rebuilt = load_model(find_weights(config, named), device)
    return Coded(rebuilt.model.code, rebuilt.model, rebuilt.weights, device)
