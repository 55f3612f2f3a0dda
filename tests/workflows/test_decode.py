"""What ``decode`` repairs is what the code corrects: up to t errors in a block exactly, and the rate of the closed form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bvae_cli
from bvae_cli.codes.base import Code, CodeSpec
from bvae_cli.config import TrainConfig, parse_code
from bvae_cli.errors import InputOutputError, UsageError
from bvae_cli.trained import DecodeConfig
from bvae_cli.workflows import decode as decode_module
from bvae_cli.workflows.decode import DecodeResult, decode
from bvae_cli.workflows.observing import TrainResult
from bvae_cli.workflows.train import train

from ..helpers import property_settings

# A code, its size and the place of each code bit's block: copies of a bit lie K apart.
BLOCKS: dict[str, tuple[str, int, list[int]]] = {
    "repetition:R=5": ("repetition:R=5", 20, [bit % 4 for bit in range(20)]),
    "hamming:r=3": ("hamming:r=3", 21, [bit // 7 for bit in range(21)]),
    "golay": ("golay", 48, [bit // 24 for bit in range(48)]),
    "unequal": (
        "unequal:groups=10 repetition:R=5 + 14 hamming:r=3",
        24,
        [*(b % 2 for b in range(10)), *([2] * 7), *([3] * 7)],
    ),
    "padded": ("hamming:r=3,pad=true", 9, [0] * 7 + [1, 2]),
}


def code_of(name: str, n: int) -> Code:
    spec: CodeSpec = parse_code(name).spec("code")
    return spec.build(n)


def codewords_of(code: Code, rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return information bits and their codewords."""
    bits = np.random.default_rng(seed).integers(0, 2, (rows, code.k), dtype=np.uint8)
    return bits, code.encode(torch.from_numpy(bits)).numpy()


def decoded(folder: Path, values: np.ndarray, **options: Any) -> tuple[DecodeResult, np.ndarray]:
    np.save(folder / "codes.npy", values)
    result = bvae_cli.decode(folder / "codes.npy", overwrite=True, output=folder / "out.npy", **options)
    out: np.ndarray = np.load(folder / "out.npy", allow_pickle=False)
    return result, out


@pytest.mark.parametrize("name", BLOCKS)
@settings(property_settings, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_up_to_t_errors_in_every_block_are_repaired_exactly_and_surely(tmp_path: Path, name: str, seed: int) -> None:
    text, n, blocks = BLOCKS[name]
    code, random = code_of(text, n), np.random.default_rng(seed)
    bits, words = codewords_of(code, 8, seed)
    parts = getattr(code, "parts", (code,))
    starts = np.cumsum([0, *(part.n for part in parts)])
    damage = np.zeros_like(words)
    for row in damage:
        for block in set(blocks):
            places = np.flatnonzero(np.array(blocks) == block)
            part = parts[int(np.searchsorted(starts, places[0], side="right")) - 1]
            row[random.permutation(places)[: random.integers(0, part.correctable + 1)]] = 1
    result, out = decoded(tmp_path, words ^ damage, ecc=text, latent=n)
    assert (out == bits).all()
    assert (result.repaired_bits, result.unsure) == (damage.sum(), 0)
    assert (result.untouched, result.repaired) == ((~damage.any(1)).sum(), damage.any(1).sum())


def test_rows_with_more_than_the_code_corrects_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_module, "_VALUES_AT_ONCE", 48)  # two rows at once
    _, words = codewords_of(code_of("golay", 24), 7)
    words[2, :3] ^= 1  # three are corrected
    words[4, :4] ^= 1  # four lie between several codewords
    words[6, 5:9] ^= 1
    result, _ = decoded(tmp_path, words, ecc="golay", latent=24, unsure=tmp_path / "unsure.npy")
    assert (result.corrects, result.unsure, result.first_unsure) == (3, 2, [4, 6])
    assert np.load(tmp_path / "unsure.npy").tolist() == [4, 6]
    assert result.repaired_bits == 3 + 4 + 4


def test_even_copies_that_tie_are_not_sure(tmp_path: Path) -> None:
    _, words = codewords_of(code_of("repetition:R=2", 6), 2)
    words[1, 0] ^= 1
    assert decoded(tmp_path, words, ecc="repetition:R=2", latent=6)[0].first_unsure == [1]


@pytest.mark.parametrize(("ecc", "n"), [("repetition:R=3", 60), ("hamming:r=3", 49), ("golay", 48), ("none", 20)])
def test_damage_on_purpose_leaves_what_the_closed_form_says(tmp_path: Path, ecc: str, n: int) -> None:
    _, words = codewords_of(code_of(ecc, n), 4000)
    result, _ = decoded(tmp_path, np.packbits(words, axis=1), ecc=ecc, latent=n, flip=0.08, seed=3)
    damage = result.damage
    assert damage is not None
    assert damage.flipped_bits == pytest.approx(4000 * n * 0.08, rel=0.02)
    for measured, known in (
        (damage.measured.bit_error_rate, damage.closed_form.hard_bit),
        (damage.measured.word_error_rate, damage.closed_form.hard_word),
    ):
        assert measured.standard_error is not None
        if known is not None:
            assert abs(measured.mean - known) < 4 * measured.standard_error
    assert damage.closed_form.hard_word is not None
    # A code does not repair more than was flipped, and what it says of its own errors is no more than there are.
    assert result.repaired_bits is not None
    assert result.repaired_bits <= damage.flipped_bits
    if ecc == "none":
        assert (result.repaired_bits, result.likely) == (0, None)
    else:
        assert result.likely is not None
        assert result.likely.hard_word is not None
        assert 0 < result.likely.hard_word < damage.closed_form.hard_word


def test_wrong_rows_that_seem_sure_are_counted_where_the_truth_is_known(tmp_path: Path) -> None:
    _, words = codewords_of(code_of("repetition:R=3", 30), 500)
    result, _ = decoded(tmp_path, words, ecc="repetition:R=3", latent=30, flip=0.1)
    assert result.damage is not None
    assert result.unsure == 0  # two of three copies are always a majority: nothing shows
    assert result.damage.wrong_and_sure == round(result.damage.measured.word_error_rate.mean * 500) > 0


def test_the_same_seed_makes_the_same_damage(tmp_path: Path) -> None:
    _, words = codewords_of(code_of("golay", 24), 50)
    options = {"ecc": "golay", "latent": 24, "flip": 0.2}
    first, again, other = (decoded(tmp_path, words, **options, seed=seed)[1] for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_logits_are_decoded_softly_and_doubt_is_by_their_posterior(tmp_path: Path) -> None:
    logits = np.array([[3, -3, 3, -3, 3, -3], [5, -1, -2, -1, -2.5, -1], [0.1, 2, 0.1, 2, 0.1, 2]], np.float32)
    result, out = decoded(tmp_path, logits, ecc="repetition:R=3", latent=6, doubt=0.05)
    assert out.tolist() == [[1, 0], [1, 0], [1, 1]]
    # Sums of the copies: (9, -9), (0.5, -3), (0.3, 6).
    assert result.first_unsure == [1, 2]
    wrong = [1 / (1 + np.exp(size)) for size in (9, 9, 0.5, 3, 0.3, 6)]
    assert result.expected_wrong_bits == pytest.approx(sum(wrong), rel=1e-6)
    assert (result.repaired, result.repaired_bits) == (1, 2)  # of the second row, two copies of the first bit
    assert result.held == "code logits"


def test_a_logit_of_nothing_is_filled_and_not_repaired(tmp_path: Path) -> None:
    result, out = decoded(tmp_path, np.array([[2, 0, 2, 1.0, -3, 0]]), ecc="repetition:R=3", latent=6)
    assert out.tolist() == [[1, 1]]
    assert result.repaired_bits == 1


def test_codewords_are_written_whole_again(tmp_path: Path) -> None:
    _, words = codewords_of(code_of("hamming:r=3", 21), 30)
    damaged = words.copy()
    damaged[:, 4] ^= 1
    packed = np.packbits(words, axis=1)
    result, out = decoded(tmp_path, damaged, ecc="hamming:r=3", latent=21, write="codewords", packed=True)
    assert (out == packed).all()
    assert (result.columns, result.dtype, out.shape) == (3, "uint8", (30, 3))


def test_a_models_codes_become_what_its_decoder_says(trained: TrainResult, tmp_path: Path) -> None:
    bvae_cli.encode(trained.folder, tmp_path / "words.npy", write="codewords", packed=True)
    model, words = bvae_cli.load(trained.folder), np.load(tmp_path / "words.npy")
    expected = model.decode(np.unpackbits(words, axis=1, count=4)).numpy()
    options = {"weights": trained.folder, "write": "probabilities"}
    result, out = decoded(tmp_path, words, **options)
    assert (result.rows, result.columns, result.dtype, result.untouched) == (60, 12, "float32", 60)
    assert out == pytest.approx(expected, abs=1e-6)
    # Information bits alone do for the decoder.
    bits = np.unpackbits(words, axis=1, count=12)[:, :4]
    result, out = decoded(tmp_path, bits, **options, precision="float16")
    assert (result.held, result.repaired, result.unsure) == ("information bits", None, 0)
    assert out == pytest.approx(expected, abs=1e-3)
    samples = decoded(tmp_path, words, weights=trained.folder, write="samples")[1]
    assert set(np.unique(samples)) == {0, 1}
    assert samples.mean(0) == pytest.approx(expected.mean(0), abs=0.35)


def test_information_bits_alone_are_no_matter_for_repair(tmp_path: Path) -> None:
    bits, _ = codewords_of(code_of("golay", 24), 5)
    for options in ({}, {"flip": 0.1, "write": "codewords"}):
        with pytest.raises(UsageError, match=r"holds information bits of golay.* show no damage(?s:.*)--write codewords"):
            decoded(tmp_path, bits, ecc="golay", latent=24, **options)
    result, out = decoded(tmp_path, bits, ecc="golay", latent=24, write="codewords")
    assert (out == codewords_of(code_of("golay", 24), 5)[1]).all()
    assert result.repaired is None


def test_packed_bits_in_the_other_order_are_seen_by_the_code(tmp_path: Path) -> None:
    _, words = codewords_of(code_of("golay", 24), 40)
    with pytest.raises(InputOutputError, match="another bit order"):
        decoded(tmp_path, np.packbits(words, axis=1, bitorder="little"), ecc="golay", latent=24)
    # Where all rows are damaged, the order is not at fault.
    words[:, 3] ^= 1
    assert decoded(tmp_path, np.packbits(words, axis=1), ecc="golay", latent=24)[0].repaired == 40


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    _, words = codewords_of(code_of("golay", 24), 5)
    with pytest.raises(UsageError, match="Nothing says which code"):
        decoded(tmp_path, words)
    with pytest.raises(UsageError, match=r"--flip flips bits; .*logits"):
        decoded(tmp_path, words.astype(float), ecc="golay", latent=24, flip=0.1)
    with pytest.raises(UsageError, match="--bits 23 is no length"):
        decoded(tmp_path, words, ecc="golay", latent=24, bits=23)
    words[3, 0] ^= 1
    with pytest.raises(InputOutputError, match=r"Row 3 of .* no codeword"):
        decoded(tmp_path, words, ecc="golay", latent=24, flip=0.1)
    with pytest.raises(UsageError, match="both name"):
        bvae_cli.decode(tmp_path / "codes.npy", ecc="golay", latent=24, output="a.npy", unsure="a.npy")
    with pytest.raises(UsageError, match="--unsure names no"):
        bvae_cli.decode(tmp_path / "codes.npy", ecc="golay", latent=24, unsure="a.txt")
    with pytest.raises(UsageError, match="probabilities are numbers"):
        bvae_cli.decode(tmp_path / "codes.npy", ecc="golay", latent=24, packed=True, write="probabilities")
    with pytest.raises(UsageError, match="is read here"):
        bvae_cli.decode(tmp_path / "codes.npy", ecc="golay", latent=24, output=tmp_path / "codes.npy")


def test_a_file_of_which_a_row_is_bad_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_module, "_VALUES_AT_ONCE", 24)
    _, words = codewords_of(code_of("golay", 24), 5)
    words[4, 0] = 7
    with pytest.raises(InputOutputError, match=r"Row 4 of .* holds 7"):
        decoded(tmp_path, words, ecc="golay", latent=24)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["codes.npy"]


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson", "categorical"])
def test_codes_of_other_values_become_such_values(tmp_path: Path, likelihood: str) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).poisson(2, (60, 6)))
    sizes: dict[str, Any] = {"hidden": 8, "latent": 12, "depth": 1, "epochs": 1, "batch_size": 16}
    config = TrainConfig(dataset=tmp_path / "x.npy", likelihood=likelihood, output_dir=tmp_path / "w", **sizes)  # type: ignore[arg-type]
    folder = train(config).folder
    words = np.random.default_rng(1).integers(0, 2, (20, 12), dtype=np.uint8)
    np.save(tmp_path / "words.npy", words)
    network = bvae_cli.load(folder).network
    told = network.likelihood.told

    def decoded(write: str) -> np.ndarray:
        config = DecodeConfig(codes=tmp_path / "words.npy", weights=folder, write=write, output=tmp_path / f"{write}.npy")  # type: ignore[arg-type]
        decode(config)
        values: np.ndarray = np.load(tmp_path / f"{write}.npy")
        return values

    with torch.no_grad():
        expected = network.decode(torch.from_numpy(words).float()).numpy()
    assert np.allclose(decoded(told), expected, rtol=1e-6)
    samples = torch.from_numpy(decoded("samples"))
    assert samples.dtype is network.likelihood.row_dtype
    assert bool(network.likelihood.supports(samples.float()).all())
    with pytest.raises(UsageError, match=f"its decoder gives {told}"):
        decoded({"means": "probabilities", "probabilities": "means"}[told])
