import pytest
import torch

from bvae_cli.datasets.binarized_mnist import BinarizedMnist
from bvae_cli.evaluation.classifier import Classifier, accuracy, train_classifier


def test_two_patterns_are_told_apart_and_the_same_training_gives_the_same_judge():
    labels = torch.arange(400) % 2
    noise = torch.rand(400, 12, generator=torch.Generator().manual_seed(1)) < 0.1
    x = ((torch.arange(12) % 2 == labels[:, None]) ^ noise).to(torch.uint8)
    state = torch.random.get_rng_state()
    one, other = train_classifier(x[:300], labels[:300]), train_classifier(x[:300], labels[:300])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert accuracy(one, x[300:], labels[300:]) > 0.95
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_accuracy_counts_the_rows_whose_label_is_found():
    classifier = Classifier(3, 2)
    with torch.no_grad():
        classifier.head.weight.zero_()
        classifier.head.bias.copy_(torch.tensor([1.0, 0.0]))
    assert accuracy(classifier, torch.rand(4, 3), torch.tensor([0, 0, 1, 0])) == 0.75
    assert classifier.features(torch.rand(2, 3)).shape == (2, 64)


@pytest.mark.slow
def test_the_judge_of_the_bundled_digits_recognises_more_than_96_percent_of_the_test_rows():
    splits = BinarizedMnist().load()
    judge = train_classifier(splits.train, splits.train_labels)
    assert accuracy(judge, splits.test, splits.test_labels) > 0.96
