"""Make the bundled data set, binarised MNIST, from the official IDX .gz files.

python scripts/make_binarized_mnist.py FOLDER [--output FILE]

Refuses files whose content is not that of the official ones. Running it twice writes the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bvae_cli.datasets.downloads import is_official
from bvae_cli.datasets.grey import THRESHOLD
from bvae_cli.datasets.idx import Mnist, read_idx

OUTPUT = Path(__file__).parents[1] / "src/bvae_cli/datasets/data/binarized_mnist.npz"


def main() -> None:
    """Read the arguments, write the file and print its size and sha256."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with the four official .gz files")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="file to write (default: the bundled one)")
    arguments = parser.parse_args()
    content = packed(arguments.folder)
    arguments.output.write_bytes(content)
    print(f"{arguments.output}: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


def packed(folder: Path) -> bytes:
    """Return the .npz: ``images`` uint8 [70000, 98], 8 pixels a byte, the first one highest; ``labels`` uint8 [70000].

    Rows are in the official order: the training file, then the test file.
    """
    for download in Mnist.downloads:
        if not is_official(folder / download.name, download):
            raise SystemExit(f"{folder / download.name} is not the official file: its sha256 differs.")
    images = np.concatenate([read_idx(_path(folder, f"{part}-images-idx3-ubyte"), 3) for part in ("train", "t10k")])
    labels = np.concatenate([read_idx(_path(folder, f"{part}-labels-idx1-ubyte"), 1) for part in ("train", "t10k")])
    bits = np.packbits(images.reshape(len(images), -1) > THRESHOLD, axis=1)
    return _npz(images=bits, labels=labels)


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.gz"


def _npz(**arrays: NDArray[Any]) -> bytes:
    # np.savez_compressed fixes neither the level nor the system that a zip entry names.
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            archive.writestr(entry, member.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)
    return stream.getvalue()


if __name__ == "__main__":
    main()
