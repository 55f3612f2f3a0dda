from bvae_dataset_even_parity import EvenParity

from bvae_cli.testing import DatasetConformance


class TestEvenParity(DatasetConformance):
    spec = EvenParity(width=9)


class TestWideEvenParity(DatasetConformance):
    spec = EvenParity(width=100, seed=3)


def test_every_word_has_an_even_number_of_ones():
    assert not (EvenParity().load().train.sum(-1) % 2).any()
