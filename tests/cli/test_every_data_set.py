"""Every data set of ours is shown, trained on and sampled from by one command each, on small files of its format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from bvae_cli import registry

from ..datasets.pictures import cifar_files, emnist_members, grey, idx_bytes, png_bytes, write_omniglot, write_tar, write_zip
from ..outcome import Bvae
from .test_likelihoods_of_data import SETS as OTHERS

_OPTIONS = ("--hidden", 8, "--latent", 12, "--depth", 1, "--epochs", 1, "--batch-size", 16)
_MNIST = Path(__file__).parents[2] / "../shared/data/mnist"


def _idx() -> None:
    for part, rows in (("train", 24), ("t10k", 5)):
        Path(f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(grey(rows, 28, 28)))
        Path(f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(np.arange(rows) % 10))


def _pictures() -> None:
    for number, picture in enumerate(grey(24, 9, 9)):
        Path(f"pictures/label{number % 3}").mkdir(parents=True, exist_ok=True)
        Path(f"pictures/label{number % 3}/{number}.png").write_bytes(png_bytes(picture))


def _bits() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, (30, 9), dtype=np.uint8)


def _parquet() -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa

    parquet.write_table(pa.table({f"c{number}": column for number, column in enumerate(_bits().T)}), "x.parquet")


def _nothing() -> None:
    pass


SETS: dict[str, tuple[str, Callable[[], object]]] = {
    "arrays": ("x.npy", lambda: np.save("x.npy", _bits())),
    "arrays, Parquet": ("x.parquet", _parquet),
    "arrays, sparse": ("x.npz", lambda: sparse.save_npz("x.npz", sparse.csr_matrix(_bits()))),
    "bars-and-stripes": ("bars-and-stripes:height=3,width=3,rows=100", _nothing),
    "binarized-mnist": ("binarized-mnist", _nothing),
    "cifar10": ("cifar10:folder=.", lambda: write_tar(Path("cifar-10-binary.tar.gz"), cifar_files())),
    "emnist": ("emnist:folder=.,binarize=threshold", lambda: write_zip(Path("gzip.zip"), emnist_members())),
    "fashion-mnist": ("fashion-mnist:folder=.,binarize=fresh", _idx),
    "images": ("images:path=pictures,size=8", _pictures),
    "kmnist": ("kmnist:folder=.", _idx),
    "mnist": ("mnist:folder=.", _idx),
    "omniglot": ("omniglot:folder=.,binarize=threshold", lambda: write_omniglot(Path())),
    "packed": ("packed:path=x.npy,features=9", lambda: np.save("x.npy", np.packbits(_bits(), axis=1))),
    "random-code": ("random-code:n=12,k=4,epsilon=0.1,rows=100", _nothing),
}


def test_every_registered_data_set_of_ours_is_here() -> None:
    ours = {name for name in registry.names("data set") if registry.origins("data set", name)[0].distribution == "bvae-cli"}
    assert ours == {name.split(",")[0] for name in (*SETS, *OTHERS)}


@pytest.mark.parametrize("name", SETS)
def test_it_is_shown_trained_on_and_sampled_from(bvae: Bvae, workplace: Path, name: str) -> None:
    dataset, write = SETS[name]
    write()
    facts = bvae("datasets", "show", dataset, "--out", "out/rows.png", "--json").succeeded().json()
    assert Path("out/rows.png").read_bytes().startswith(b"\x89PNG")
    trained = bvae("train", "--dataset", dataset, *_OPTIONS, "--subset", 100, "--json").succeeded().json()
    assert trained["state"] == "finished"
    bvae("sample", "-w", trained["folder"], "--num-samples", 4, "--subset", 50, "--iwae-samples", 2).succeeded()
    if facts["entropy"] is not None:
        assert trained["best_validation_loss"] > facts["entropy"]


@pytest.mark.skipif(not _MNIST.is_dir(), reason="the official MNIST files are not on this machine")
@pytest.mark.parametrize("binarize", ["threshold", "fresh"])
def test_the_official_mnist_files_train_in_both_forms(bvae: Bvae, workplace: Path, binarize: str) -> None:
    dataset = f"mnist:folder={_MNIST.resolve()},binarize={binarize}"
    trained = bvae("train", "--dataset", dataset, *_OPTIONS, "--subset", 500, "--json").succeeded().json()
    assert 100 < trained["best_validation_loss"] < 600
