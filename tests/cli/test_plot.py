from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from ..outcome import Bvae


def test_one_run_is_drawn_into_its_own_folder(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    shutil.copytree(run_folder, "run")
    assert bvae("plot", "run").succeeded().out == "run/loss_curves.png\n"
    assert Path("run/loss_curves.png").read_bytes().startswith(b"\x89PNG")


def test_several_runs_are_drawn_where_one_stands(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    for name in ("$run_1$", "_run"):
        shutil.copytree(run_folder, name)
    assert bvae("plot", "$run_1$", "_run").succeeded().out == "loss_curves.png\n"
    assert Path("loss_curves.png").exists()


@pytest.mark.parametrize(("name", "start"), [("a.svg", b"<?xml"), ("b.PDF", b"%PDF"), ("new/folder/c.png", b"\x89PNG")])
def test_the_suffix_says_the_format(bvae: Bvae, run_folder: Path, workplace: Path, name: str, start: bytes) -> None:
    bvae("plot", run_folder, "--out", name).succeeded()
    assert Path(name).read_bytes().startswith(start)


@pytest.mark.parametrize("name", ["a.bmp", "a", "a.png.txt"])
def test_another_format_is_refused_before_anything_is_read(bvae: Bvae, workplace: Path, name: str) -> None:
    bvae("plot", "nowhere", "-o", name).refused(2, "not a format", ".png, .svg, .pdf")


def test_what_is_no_run_cannot_be_drawn(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    bvae("plot").refused(2, "FOLDER")
    bvae("plot", "nowhere").refused(3, "nowhere holds no loss_record_with.txt")
    shutil.copytree(run_folder, "run")
    Path("run/loss_record_with.txt").write_text("# training_loss validation_loss kl beta temperature lr\n")
    bvae("plot", "run").refused(2, "no finished epoch")
    Path("run/loss_record_with.txt").write_text("# training_loss\nx\n")
    bvae("plot", "run").refused(3, "not a loss record")


def test_a_figure_that_cannot_be_written_is_an_output_error(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    bvae("plot", run_folder, "-o", "bits.npy/figure.png").refused(3, "Cannot write to bits.npy")


def test_a_file_that_is_named_is_replaced_only_when_asked(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    Path("mine.png").write_bytes(b"mine")
    bvae("plot", run_folder, "-o", "mine.png").refused(2, "mine.png is there already", "--overwrite")
    assert Path("mine.png").read_bytes() == b"mine"
    bvae("plot", run_folder, "-o", "mine.png", "--overwrite").succeeded()
    assert Path("mine.png").read_bytes().startswith(b"\x89PNG")
    shutil.copytree(run_folder, "run")
    for _ in range(2):
        bvae("plot", "run").succeeded()


def test_losses_are_per_image_where_rows_are_pictures_and_per_row_elsewhere(
    bvae: Bvae, run_folder: Path, workplace: Path
) -> None:
    np.save("pictures.npy", np.load("bits.npy").reshape(60, 3, 4))
    line = ("train", "--hidden", 8, "--latent", 6, "--depth", 1, "--epochs", 1, "--dataset")
    shown = bvae(*line, "pictures.npy").succeeded().out
    assert " nats per image (" in shown
    (pictures,) = Path("weights").iterdir()
    assert " nats per row (" in bvae(*line, "bits.npy").succeeded().out
    for folders, unit in (((pictures,), "image"), ((run_folder,), "row"), ((pictures, run_folder), "row")):
        bvae("plot", *folders, "-o", "curves.svg", "--overwrite").succeeded()
        assert f"validation loss (nats per {unit})" in Path("curves.svg").read_text(encoding="utf-8")


def test_curves_are_not_put_among_the_pictures_that_are_the_data(
    bvae: Bvae, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = pytest.importorskip("PIL.Image")
    Path("pictures/some").mkdir(parents=True)
    for number, values in enumerate(np.random.default_rng(0).integers(0, 256, (12, 4, 4), dtype=np.uint8)):
        image.fromarray(values).save(f"pictures/some/{number}.png")
    data = f"images:path={workplace / 'pictures'}"
    bvae("train", "--dataset", data, "--hidden", 8, "--latent", 6, "--depth", 1, "--epochs", 1, "-q").succeeded()
    (run,) = (workplace / "weights").iterdir()
    other = shutil.copytree(run, workplace / "other")
    bvae("plot", run, "-o", "pictures/curves.png").refused(2, "lies among the pictures", "Write it elsewhere")
    bvae("plot", run, "-o", "pictures/curves.svg").succeeded()
    monkeypatch.chdir("pictures")
    bvae("plot", run, other).refused(2, "loss_curves.png lies among the pictures")
    assert not list(Path().glob("*.png"))
    bvae("plot", run).succeeded()
