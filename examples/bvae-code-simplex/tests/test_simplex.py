from bvae_code_simplex import Simplex

from bvae_cli.testing import CodeConformance


class TestSimplex(CodeConformance):
    spec = Simplex(r=3)


class TestLongSimplex(CodeConformance):
    spec = Simplex(r=5)


def test_any_two_codewords_are_equally_far_apart():
    code = Simplex(r=4).build(15)
    words = code.encode(bits(4))
    distances = (words[:, None] != words[None]).sum(-1)
    assert {int(distance) for distance in distances.flatten()} == {0, 8}


def bits(k):
    import torch

    return (torch.arange(2**k)[:, None] >> torch.arange(k)) & 1
