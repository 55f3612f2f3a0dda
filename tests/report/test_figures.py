"""Figures as bytes: what they are, how large, and that no name or number breaks them."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest

from bvae_cli.report.figures import Captions, drawn_as, image_grid, loss_curves

PNG = b"\x89PNG\r\n\x1a\n"


def record(epochs: int = 5, start: float = 200.0) -> dict[str, Sequence[float]]:
    falling = [start / (epoch + 1) for epoch in range(epochs)]
    return {"training_loss": falling, "validation_loss": falling, "kl": falling, "beta": [0.1] * epochs}


def png_size(content: bytes) -> tuple[int, int]:
    assert content.startswith(PNG)
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def pixels(content: bytes) -> np.ndarray:
    """Return the colours of a PNG, ``[height, width, 3]`` in 0…1."""
    image: np.ndarray = matplotlib.image.imread(io.BytesIO(content))
    return image[..., :3]


def places_of(grid: np.ndarray, axis: int) -> list[tuple[int, int]]:
    """Return where pictures begin and end along an axis: nothing between them is grey."""
    grey = (grid == grid[..., :1]).all(-1).any(1 - axis)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], grey, [False]]).astype(int)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def svg_texts(content: bytes) -> str:
    root = ElementTree.fromstring(content)
    assert root.tag.endswith("svg")
    return content.decode()


def test_loss_curves_are_a_png_of_a_size_to_read() -> None:
    width, height = png_size(loss_curves({"a": record()}, "png"))
    assert (width, height) == (1200, 792)


def test_loss_curves_are_an_svg_with_every_label() -> None:
    text = svg_texts(loss_curves({"a run": record(), "another": record(start=100)}, "svg"))
    for words in ("a run", "another", "training loss", "validation loss", "KL", "epoch"):
        assert words in text


def test_loss_curves_are_a_pdf() -> None:
    assert loss_curves({"a": record()}, "pdf").startswith(b"%PDF")


def test_another_record_draws_another_picture() -> None:
    assert loss_curves({"a": record()}, "png") != loss_curves({"a": record(start=100)}, "png")
    assert loss_curves({"a": record()}, "png") == loss_curves({"a": record()}, "png")


@pytest.mark.parametrize(
    "name", ["cost_$5", "$x^{$", "_hidden", "__both", "a\\b", "100 %", "Größe ε", "", "x" * 300, "$\\frac{"]
)
def test_no_name_breaks_a_figure_or_hides_its_line(name: str) -> None:
    text = svg_texts(loss_curves({name: record(), "other": record()}, "svg"))
    assert "other" in text
    plain = name.lstrip("_")
    if plain.isidentifier():
        assert plain in text


def test_a_leading_underscore_leaves_the_line_in_the_legend() -> None:
    assert "hidden_run" in svg_texts(loss_curves({"_hidden_run": record()}, "svg"))


def test_runs_of_one_epoch_are_seen_as_a_point() -> None:
    one, none = loss_curves({"a": record(1)}, "svg"), loss_curves({"a": record(2)}, "svg")
    assert one.count(b"<use") > none.count(b"<use")


def test_runs_of_different_lengths_share_a_figure() -> None:
    png_size(loss_curves({"a": record(1), "b": record(50)}, "png"))


def test_many_runs_share_a_figure() -> None:
    png_size(loss_curves({f"run {index}": record(start=index + 1) for index in range(30)}, "png"))


def test_an_infinite_loss_does_not_break_a_figure() -> None:
    png_size(loss_curves({"a": {**record(), "validation_loss": [1.0, float("nan"), float("inf"), 1.0, 1.0]}}, "png"))


def test_a_grid_shows_every_picture_in_its_place() -> None:
    count, height, width = 5, 14, 14
    images = np.zeros((count, height * width))
    images[3] = 1
    grid = pixels(image_grid(images, (height, width)))
    # Pictures of 14 are enlarged four times; three columns of 56 and gaps of 4 between and around.
    assert grid.shape == (2 * 60 + 4, 3 * 60 + 4, 3)
    cells = [
        grid[4 + 60 * row : 60 + 60 * row, 4 + 60 * column : 60 + 60 * column] for row in range(2) for column in range(3)
    ]
    assert [float(cell.mean()) for cell in cells[:5]] == [0, 0, 0, 1, 0]
    assert (cells[5] == grid[0, 0]).all()


def test_nothing_between_pictures_is_grey_whatever_they_show() -> None:
    grid = pixels(image_grid(np.full((4, 28 * 28), 0.5), (28, 28)))
    assert places_of(grid, 0) == places_of(grid, 1) == [(4, 60), (64, 120)]
    assert grid[4, 4].tolist() == pytest.approx([0.5] * 3, abs=0.01)


def test_a_value_that_is_not_there_has_the_colour_between_the_pictures() -> None:
    images = np.zeros((2, 28 * 28))
    images[0, 0], images[1] = np.nan, np.nan
    grid = pixels(image_grid(images, (28, 28)))
    between = grid[0, 0]
    assert (grid[4:6, 4:6] == between).all()
    assert (grid[6:60, 6:60] == 0).all()
    assert (grid[4:60, 64:120] == between).all()


def test_groups_stand_further_apart() -> None:
    grid = pixels(image_grid(np.zeros((8, 28 * 28)), (28, 28), 4, column_groups=(1, 1, 2), row_groups=(1, 1)))
    assert places_of(grid, 1) == [(4, 60), (72, 128), (140, 196), (200, 256)]
    assert places_of(grid, 0) == [(4, 60), (72, 128)]
    assert grid.shape == (128 + 4, 256 + 4, 3)


def test_a_picture_of_three_values_a_pixel_is_in_colour() -> None:
    picture = np.zeros((1, 56, 56, 3))
    picture[0, 3, 10] = (1.0, 0.6, 0.2)
    grid = pixels(image_grid(picture.reshape(1, -1), (56, 56, 3)))
    assert grid.shape == (64, 64, 3)
    assert grid[4 + 3, 4 + 10].tolist() == pytest.approx([1.0, 0.6, 0.2], abs=0.01)
    assert (grid[4:60, 4:60] > 0).any(-1).sum() == 1


def test_a_pixel_keeps_its_place_and_its_grey() -> None:
    picture = np.zeros((1, 56 * 56))
    picture[0, 3 * 56 + 10] = 0.6
    grid = pixels(image_grid(picture, (56, 56)))
    assert grid.shape == (64, 64, 3)
    assert grid[4 + 3, 4 + 10].tolist() == pytest.approx([0.6] * 3, abs=0.01)
    assert (grid[4:-4, 4:-4, 0] > 0).sum() == 1


@pytest.mark.parametrize(
    ("features", "shape", "side"), [(784, (784,), (28, 28)), (72, (6, 12, 1), (8, 9)), (33, (33,), (6, 6))]
)
def test_long_rows_that_are_no_pictures_are_folded_nearly_square(
    features: int, shape: tuple[int, ...], side: tuple[int, int]
) -> None:
    width, height = png_size(image_grid(np.full((1, features), 0.5), shape))
    scale = max(1, 56 // max(side))
    assert (height, width) == (scale * side[0] + 8, scale * side[1] + 8)
    assert drawn_as(shape) == f"its {features} values in lines of {side[1]}"


def test_features_that_fill_no_square_leave_a_place_that_is_no_value() -> None:
    grid = pixels(image_grid(np.zeros((1, 80)), (80,)))
    assert (grid[4 + 8 * 6 : 58, 4 + 8 * 6 : 58] == grid[0, 0]).all()
    assert (grid[4 : 4 + 8 * 6, 4:58] == 0).all()


@pytest.mark.parametrize(
    ("features", "shape", "of_a_value"), [(12, (12,), 10), (1, (1,), 120), (12, (2, 3, 2), 10), (32, (32,), 3)]
)
def test_short_rows_that_are_no_pictures_are_bars(features: int, shape: tuple[int, ...], of_a_value: int) -> None:
    rows = np.zeros((2, features))
    rows[0, -1] = 1
    grid = pixels(image_grid(rows, shape, columns=1))
    assert grid.shape == (4 + 2 * 20, of_a_value * features + 8, 3)
    assert (grid[4:20, 4 : 4 + of_a_value * (features - 1)] == 0).all()
    assert (grid[4:20, 4 + of_a_value * (features - 1) : -4] == 1).all()
    assert (grid[24:40, 4:-4] == 0).all()
    assert drawn_as(shape) == ("a bar of its one value" if features == 1 else f"a bar of its {features} values")


def test_captions_stand_above_the_columns_and_beside_the_rows() -> None:
    pictures, shape = np.zeros((6, 28 * 28)), (28, 28)
    plain = pixels(image_grid(pictures, shape, 3))
    captions = Captions(["one", "", "two\nlines"], ["a row", ""])
    grid = pixels(image_grid(pictures, shape, 3, captions=captions))
    above, beside = grid.shape[0] - plain.shape[0], grid.shape[1] - plain.shape[1]
    assert above == 2 * 14 + 4
    assert (grid[above:, beside:] == plain).all()
    there = (grid != grid[0, 0]).any(-1)  # letters and pictures
    lefts = [beside + 4, beside + 64, beside + 124]
    of_columns = [there[:above, left : left + 60].any() for left in lefts]
    assert of_columns == [True, False, True]
    assert [there[:14, lefts[2] :].any(), there[18:above, lefts[2] :].any()] == [True, True]
    assert not there[:above, :beside].any()
    assert [there[above + 4 + 60 * row : above + 60 + 60 * row, :beside].any() for row in (0, 1)] == [True, False]
    # Nothing else is drawn, and nothing of it in the pictures.
    assert (grid[above + 4 : above + 60, lefts[0] : lefts[0] + 56] == 0).all()


def test_a_column_is_as_wide_as_its_title_unless_the_next_one_has_none() -> None:
    pictures, shape, long = np.zeros((3, 28 * 28)), (28, 28), "a title longer than that"
    narrow = png_size(image_grid(pictures, shape, 3, captions=Captions([long, "", ""])))[0]
    wide = png_size(image_grid(pictures, shape, 3, captions=Captions(["", "", long])))[0]
    assert narrow == 3 * 60 + 4 < wide
    assert png_size(image_grid(pictures, shape, 3, captions=Captions([long, "b", "c"])))[0] == wide


def test_the_number_of_columns_can_be_named() -> None:
    wide = png_size(image_grid(np.zeros((6, 56 * 56)), (56, 56), columns=6))
    assert wide == (6 * 60 + 4, 60 + 4)
