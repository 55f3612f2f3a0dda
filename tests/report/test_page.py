"""The report of a comparison: complete, escaped, without anything from elsewhere, and the same at every drawing."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bvae_cli.comparisons import ComparisonFolder
from bvae_cli.errors import InputOutputError
from bvae_cli.evaluation.metrics import METRICS
from bvae_cli.report.page import write_report
from bvae_cli.report.tables import arm_table

from ..comparing import arm_record, comparison_of, keep_pictures

VOID = {"meta", "link", "img", "br", "hr", "input", "path", "use", "rect", "circle", "line", "stop"}


class Reader(HTMLParser):
    """Collects what a browser would load, the figures with their text alternatives, and elements that are never closed."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.unspoken: list[str] = []
        self.figures = 0
        self.identifiers: list[str] = []
        self.open: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {key: value or "" for key, value in attrs}
        self.tags.add(tag)
        self.open.append(tag)
        self.identifiers += [values["id"]] if "id" in values else []
        for key in ("src", "href", "xlink:href", "data", "action"):
            if key in values and not values[key].startswith(("#", "data:")):
                self.loaded.append(values[key])
        if tag == "svg" or tag == "img":
            self.figures += 1
            if not (values.get("aria-label") or values.get("alt")):
                self.unspoken.append(tag)
        if tag in VOID:
            self.open.pop()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self.open.pop() == tag


@pytest.fixture
def drawn(tmp_path: Path) -> tuple[ComparisonFolder, str]:
    folder, comparison = ComparisonFolder(tmp_path), comparison_of()
    keep_pictures(folder, comparison)
    return folder, write_report(folder, comparison).read_text(encoding="utf-8")


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    return reader


def test_the_page_loads_nothing_and_runs_nothing(drawn: tuple[ComparisonFolder, str]) -> None:
    reader = read(drawn[1])
    assert reader.loaded == []
    assert "script" not in reader.tags
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org)", drawn[1])
    assert reader.open == []


def test_every_figure_has_a_text_alternative_and_identifiers_are_its_own(drawn: tuple[ComparisonFolder, str]) -> None:
    reader = read(drawn[1])
    # 3 forests, 3 claims by seed, 2 arms each of curves and reliability, 2 channel, 3 stored, tuning, 7 sheets.
    assert reader.figures == 3 + 3 + 2 + 2 + 2 + 3 + 1 + 7
    assert reader.unspoken == []
    assert len(reader.identifiers) == len(set(reader.identifiers))


def test_the_verdict_stands_on_top_and_the_command_is_there(drawn: tuple[ComparisonFolder, str]) -> None:
    page, comparison = drawn[1], comparison_of()
    assert all(sentence.split(":")[0] in page[: page.index("<nav")] for sentence in comparison.verdict)
    assert comparison.command in page
    assert "With 3 seeds no claim can be significant" in page


def test_every_arm_seed_setting_and_closed_form_is_in_it(drawn: tuple[ComparisonFolder, str]) -> None:
    page = drawn[1]
    for words in ("closed form 2.8 %", "chosen", "lr=0.003", "1000000", "320 training", "97.00 % of the real test rows"):
        assert words in page


def test_what_comes_from_names_and_data_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>&\"'$x^2$"
    values = {
        "iwae": [-95.0, -96.0],
        "elbo": [-96.0, -97.0],
        "inference_bit_error_rate": [0.1, 0.2],
        "stored_nll@0.1": [1.0, 2.0],
    }
    both = values | {
        f"{name}@{epsilon}": [0.1, 0.2]
        for epsilon in (0, 0.1)
        for name in (
            "stored_bit_error_rate",
            "stored_psnr",
            "stored_nll",
            "channel_bit_error_rate",
            "channel_word_error_rate",
        )
    }
    both["calibration_error"] = [0.1, 0.1]
    comparison = comparison_of(
        [arm_record(evil, "none", **both), arm_record("coded", "x", **both)], command=evil, cautions=[evil]
    )
    folder = ComparisonFolder(tmp_path)
    keep_pictures(folder, comparison)
    page = write_report(folder, comparison).read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "script" not in read(page).tags


def test_the_same_comparison_is_drawn_with_the_same_bytes(drawn: tuple[ComparisonFolder, str]) -> None:
    folder, page = drawn
    figures = {path.name: path.read_bytes() for path in (folder.folder / "figures").iterdir()}
    assert len(figures) == 3 + 3 + 2 + 2 + 2 + 3 + 1 + 7
    assert write_report(folder, comparison_of()).read_text(encoding="utf-8") == page
    assert {path.name: path.read_bytes() for path in (folder.folder / "figures").iterdir()} == figures


def test_without_flips_tuning_or_a_second_seed_the_page_says_so_and_draws_the_rest(tmp_path: Path) -> None:
    values = {"iwae": [-95.0], "elbo": [-96.0], "inference_bit_error_rate": [0.1], "calibration_error": [0.1]}
    values |= {
        f"{name}@0": [0.5] for name in ("stored_nll", "stored_psnr", "stored_bit_error_rate", "channel_bit_error_rate")
    }
    comparison = comparison_of(
        [arm_record("a", "none", **values), arm_record("b", "x", **values)], noise_epsilon=[0.0], tuned=[], claims=["iwae"]
    )
    assert comparison.protocol.noise_epsilon == [0.0]
    folder = ComparisonFolder(tmp_path)
    keep_pictures(folder, comparison)
    page = write_report(folder, comparison).read_text(encoding="utf-8")
    assert "No flip probability above 0 was measured." in page
    assert 'id="tuning"' not in page
    assert "nothing can be said of training" in page


def test_missing_pictures_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputOutputError) as caught:
        write_report(ComparisonFolder(tmp_path), comparison_of())
    assert caught.value.hint == "Run the comparison again: it is measured anew."


def test_characters_that_are_no_text_and_broken_formulas_are_shown_everywhere(tmp_path: Path) -> None:
    evil = 'x\x1b[31m\x00\ud800\u202e</title></text><svg onload="alert(1)">$\\frac{$ url(#x) id="y'
    plain = comparison_of()
    arms = [arm.model_copy(update={"name": f"{evil} {index}", "note": evil}) for index, arm in enumerate(plain.arms)]
    arms = [
        arm.model_copy(
            update={"chosen": {evil: "1"}, "tuning": [one.model_copy(update={"setting": {evil: "1"}}) for one in arm.tuning]}
        )
        for arm in arms
    ]
    names = {arm.name: f"{evil} {index}" for index, arm in enumerate(plain.arms)}
    effects = [
        effect.model_copy(update={"arm": names[effect.arm], "reference": names[effect.reference]})
        for effect in plain.effects
    ]
    comparison = plain.model_copy(
        update={
            "arms": arms,
            "effects": effects,
            "protocol": plain.protocol.model_copy(update={"tuned": [evil], "settings": {evil: evil}}),
            "data": plain.data.model_copy(update={"label": evil, "source": evil}),
            **dict.fromkeys(("command", "digest"), evil),
            "verdict": [evil],
            "cautions": [evil],
            "machine": dict.fromkeys(plain.machine, evil),
        }
    )
    folder = ComparisonFolder(tmp_path)
    keep_pictures(folder, comparison)
    page = write_report(folder, comparison).read_text(encoding="utf-8")
    reader = read(page)
    assert reader.open == []
    assert reader.loaded == []
    assert "<svg onload" not in page
    assert not set(page) & {"\x1b", "\x00", "\u202e"}
    for figure in (tmp_path / "figures").glob("*.svg"):
        root = ElementTree.fromstring(figure.read_bytes())
        assert not any(name.startswith("on") for element in root.iter() for name in element.attrib)


def test_of_grey_values_nothing_is_called_a_bound_of_a_likelihood() -> None:
    comparison = comparison_of()
    grey = comparison.model_copy(update={"data": comparison.data.model_copy(update={"is_likelihood": False})})
    meanings = [{row[0]: row[-1] for row in arm_table(it, everything=True).rows} for it in (comparison, grey)]
    assert any(meant.startswith("lower bound of log p(x)") for meant in meanings[0].values())
    assert not any("lower bound of log p(x)" in meant for meant in meanings[1].values())
    changed = {name for name, meant in meanings[0].items() if meanings[1][name] != meant}
    assert any(name.startswith("ELBO") for name in changed)
    assert {meanings[1][name] for name in changed} <= {metric.of_grey_values for metric in METRICS.values()}


def test_the_short_table_has_what_was_maximised_and_stored_images_at_every_flip_probability() -> None:
    values = {"elbo": [-100.0], "iwae": [-99.0], "bitwise_surrogate": [-90.0], "log_likelihood": [-98.0]}
    values |= {"stored_nll@0": [70.0], "stored_nll@0.1": [80.0], "stored_psnr@0.1": [15.0]}
    arms = [arm_record(name, code, **values) for name, code in (("a", "none"), ("b", "x"))]
    comparison = comparison_of(arms, tuned=[], claims=["iwae", "stored_nll@0.1"])
    assert [row[0] for row in arm_table(comparison).rows] == [
        "ELBO (nats)",
        "IWAE-64 (nats)",
        "log p(x) (nats)",
        "bitwise surrogate (nats)",
        "stored NLL, ε = 0 (nats)",
        "stored NLL, ε = 0.1 (nats)",
    ]


def test_the_report_says_where_the_models_are(drawn: tuple[ComparisonFolder, str]) -> None:
    _, page = drawn
    assert all(arm.runs[0].folder in page for arm in comparison_of().arms)
