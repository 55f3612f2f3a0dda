import itertools
import math

import pytest
import torch

from bvae_cli.codes.repetition import Repetition
from bvae_cli.codes.uncoded import Uncoded
from bvae_cli.evaluation.classifier import Classifier
from bvae_cli.evaluation.storage import store_and_read
from tests.helpers import ExtendedHamming, Hamming, constructed_model, every_small_code, joint_threshold, small_model


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_bits(rows: int, columns: int) -> torch.Tensor:
    return (torch.rand(rows, columns, generator=generator(9)) < 0.5).float()


@every_small_code
def test_without_flips_the_most_probable_word_comes_back_as_it_was_written(spec, n):
    model = small_model(spec.build(n), gain=3.0)
    x = random_bits(50, 5).double()
    read = store_and_read(model.float(), x, 0.0, generator())
    assert not read.bit_error_rate.any()
    with torch.no_grad():
        word = (model.encode(x.float()).logits > 0).float()
        probabilities = model.decode(model.code.encode(word))
    by_hand = -(x * probabilities.log() + (1 - x) * (1 - probabilities).log()).sum(-1)
    torch.testing.assert_close(read.negative_log_likelihood.double(), by_hand, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(read.decoded, probabilities)
    mean_square = (x - probabilities).square().mean(-1)
    torch.testing.assert_close(read.psnr.double(), -10 * mean_square.log10(), atol=1e-4, rtol=1e-5)


# Seven checks, jointly at 1 %; the fixed seed makes them pass or fail for everybody.
CLOSED_FORMS = [
    (Uncoded(), 6, 0.05, 0.05),
    (Repetition(R=2), 8, 0.1, 0.1),
    (Repetition(R=3), 12, 0.01, 3 * 0.01**2 - 2 * 0.01**3),
    (Repetition(R=3), 12, 0.05, 0.00725),
    (Repetition(R=3), 12, 0.1, 0.028),
    (Hamming(), 14, 0.05, 9 * 0.05**2 - 26 * 0.05**3 + 30 * 0.05**4 - 12 * 0.05**5),
    (Repetition(R=3), 12, 0.5, 0.5),
]


@pytest.mark.parametrize(("spec", "n", "epsilon", "rate"), CLOSED_FORMS, ids=str)
def test_flips_of_a_stored_codeword_are_repaired_as_often_as_the_closed_form_says(spec, n, epsilon, rate):
    rows = 20_000
    read = store_and_read(small_model(spec.build(n), gain=3.0).float(), random_bits(rows, 5), epsilon, generator(2))
    measured = read.bit_error_rate.double()
    error = float(measured.std()) / math.sqrt(rows)
    assert abs(float(measured.mean()) - rate) < joint_threshold(len(CLOSED_FORMS)) * error


def test_at_half_nothing_of_the_image_is_left_in_the_stored_bits():
    # Pixels are code bits here: after flips with ½ each read bit is a coin, and the NLL that of a random word.
    code = Uncoded().build(3)
    model = constructed_model(code, 40.0, 2.0)
    x = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3))).repeat(4000, 1)
    read = store_and_read(model, x, 0.5, generator(5))
    right, wrong = math.log1p(math.exp(-2.0)), math.log1p(math.exp(2.0))
    expected = 3 * (right + wrong) / 2
    error = float(read.negative_log_likelihood.double().std()) / math.sqrt(len(x))
    assert abs(float(read.negative_log_likelihood.double().mean()) - expected) < 3 * error


def test_what_is_stored_is_a_codeword_and_not_the_encoders_own_bits():
    # Copies that disagree: λ = 3 − 1 > 0, so 1 is written to both, and read back as 1 without a coin.
    code = Repetition(R=2).build(2)
    model = constructed_model(code, 1.0, 5.0)
    with torch.no_grad():
        model.encoder.layers[0].bias.copy_(torch.tensor([2.0, -2.0]))
    x = torch.tensor([[1.0, 1.0]] * 400)
    assert (model.encode(x).code_logits[0] > 0).tolist() == [True, False]
    read = store_and_read(model, x, 0.0, generator(1))
    assert not read.bit_error_rate.any()
    assert (read.decoded > 0.5).all()


def test_a_classifier_reads_the_decoded_images_against_their_labels():
    code = ExtendedHamming().build(8)
    model = constructed_model(code, 40.0, 20.0)
    words = code.encode(random_bits(64, 4))
    classifier = Classifier(8, 2)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.zero_()
        classifier.body[0].weight[0, 0] = 1.0  # the first pixel …
        classifier.body[2].weight[0, 0] = 1.0
        classifier.head.weight[1, 0] = 1.0  # … speaks for label 1
        classifier.head.bias[0] = 0.5
    labels = words[:, 0].long()
    assert store_and_read(model, words, 0.0, generator(), classifier, labels).recognised.tolist() == [1.0] * 64
    assert store_and_read(model, words, 0.0, generator(), classifier, 1 - labels).recognised.tolist() == [0.0] * 64
    assert store_and_read(model, words, 0.0, generator()).recognised is None
