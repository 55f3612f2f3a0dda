"""Our own codes under the kit that plugin authors have."""

from __future__ import annotations

from bvae_cli import registry
from bvae_cli.codes.bch import Bch
from bvae_cli.codes.convolutional import Convolutional
from bvae_cli.codes.golay import Golay
from bvae_cli.codes.hamming import Hamming
from bvae_cli.codes.ldpc import Ldpc
from bvae_cli.codes.matrix import Linear
from bvae_cli.codes.parity import Parity
from bvae_cli.codes.polar import Polar
from bvae_cli.codes.reed_muller import ReedMuller
from bvae_cli.codes.repetition import Repetition
from bvae_cli.codes.uncoded import Uncoded
from bvae_cli.codes.unequal import Unequal
from bvae_cli.testing import CodeConformance


class TestNone(CodeConformance):
    spec = Uncoded()


class TestRepetition(CodeConformance):
    spec = Repetition(R=3)


class TestEvenRepetition(CodeConformance):
    spec = Repetition(R=2)


class TestParity(CodeConformance):
    spec = Parity(k=4)


class TestLongParity(CodeConformance):
    spec = Parity(k=20)


class TestHamming(CodeConformance):
    spec = Hamming(r=3)


class TestExtendedHamming(CodeConformance):
    spec = Hamming(r=3, extended=True)


class TestShortenedHamming(CodeConformance):
    spec = Hamming(r=4, shorten=3)


class TestLongHamming(CodeConformance):
    spec = Hamming(r=5)


class TestGolay(CodeConformance):
    spec = Golay(n=24)


class TestPerfectGolay(CodeConformance):
    spec = Golay(n=23)


class TestReedMuller(CodeConformance):
    spec = ReedMuller(r=1, m=4)


class TestDenseReedMuller(CodeConformance):
    spec = ReedMuller(r=3, m=4)


class TestBch(CodeConformance):
    spec = Bch(n=15, t=2)


class TestLargeBch(CodeConformance):
    spec = Bch(n=31, t=3)


class TestLdpc(CodeConformance):
    spec = Ldpc(n=96)


class TestShortLdpc(CodeConformance):
    spec = Ldpc(n=20, dv=3, dc=5, seed=1)


class TestLinear(CodeConformance):
    spec = Linear(matrix="110100/011010/111001")


class TestParityChecks(CodeConformance):
    spec = Linear(matrix="1101100/1011010/0111001", kind="parity-check")


class TestUnequal(CodeConformance):
    spec = Unequal(groups="14 hamming:r=3 + 10 repetition:R=5 + 6 none")


class TestTailBitingConvolutional(CodeConformance):
    spec = Convolutional(k=10)


class TestTerminatedConvolutional(CodeConformance):
    spec = Convolutional(generators="15-17", k=8, termination="terminated")


class TestConvolutionalOfThree(CodeConformance):
    spec = Convolutional(generators="5-7-7", k=9)


class TestLongConvolutional(CodeConformance):
    spec = Convolutional(k=20)


class TestLongTerminatedConvolutional(CodeConformance):
    spec = Convolutional(generators="23-35", k=16, termination="terminated")


class TestPolar(CodeConformance):
    spec = Polar(n=16, k=8)


class TestPolarBySuccessiveCancellation(CodeConformance):
    spec = Polar(n=16, k=8, decoder="successive-cancellation")


class TestLargePolar(CodeConformance):
    spec = Polar(n=64, k=32)


def test_every_code_of_ours_is_under_the_kit() -> None:
    tested = {test.spec.family for test in globals().values() if isinstance(test, type) and hasattr(test, "spec")}
    ours = {
        name for name in registry.names("code") if any(o.distribution == "bvae-cli" for o in registry.origins("code", name))
    }
    assert ours <= tested
