"""A fixed classifier, trained on real images only: the same judge for every model of a comparison."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bvae_cli.datasets.rows import Rows

_HIDDEN = (256, 64)
_EPOCHS = 4
_BATCH = 100
_LEARNING_RATE = 1e-3
_SEED = 20_230_418
_ROWS = 2000


class Classifier(nn.Module):
    """A perceptron from an image ``[..., D]`` to its label, with a layer of 64 features below the last.

    The images it sees are those of the data set, bits or values in [0, 1]; it never sees a model's.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        first, second = _HIDDEN
        self.body = nn.Sequential(nn.Linear(features, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU())
        self.head = nn.Linear(second, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the labels, ``[..., D] -> [..., classes]``."""
        logits: Tensor = self.head(self.body(x))
        return logits

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Return the features below the last layer, ``[..., D] -> [..., 64]``."""
        values: Tensor = self.body(x.float())
        return values

    @torch.no_grad()
    def labels(self, x: Tensor) -> Tensor:
        """Return the most probable label of each row, ``[..., D] -> [...]``."""
        logits: Tensor = self(x.float())
        return logits.argmax(-1)


def train_classifier(x: Tensor | Rows, labels: Tensor) -> Classifier:
    """Train the judge on rows ``x [rows, D]`` and their labels ``[rows]``, always with the same seed and settings."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        classifier = Classifier(x.shape[1], int(labels.max()) + 1)
    classifier = classifier.to(x.device)
    labels = labels.to(x.device)
    generator = torch.Generator(x.device).manual_seed(_SEED)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=_LEARNING_RATE)
    for _ in range(_EPOCHS):
        for rows in torch.randperm(len(x), device=x.device, generator=generator).split(_BATCH):
            loss = functional.cross_entropy(classifier(x[rows].float()), labels[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    return classifier.eval()


def accuracy(classifier: Classifier, x: Tensor | Rows, labels: Tensor) -> float:
    """Return the share of rows whose label the classifier finds."""
    found = torch.cat([classifier.labels(chunk) for chunk in x.split(_ROWS)])
    return float((found.cpu() == labels.cpu()).double().mean())


def features_of(classifier: Classifier, x: Tensor | Rows) -> Tensor:
    """Return the classifier's features of all rows, ``[rows, D] -> [rows, 64]``, some rows at once."""
    return torch.cat([classifier.features(chunk) for chunk in x.split(_ROWS)])
