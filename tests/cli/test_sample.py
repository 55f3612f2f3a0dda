from __future__ import annotations

from pathlib import Path

import numpy as np

from ..datasets.pictures import grey, png_bytes
from ..outcome import Bvae

FAST = ("--iwae-samples", 2, "--num-samples", 4)


def test_a_table_of_quality_and_the_names_of_the_files_are_on_stdout(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    outcome = bvae("sample", "--weights", run_folder, *FAST, "--out", "here").succeeded()
    for words in ("ELBO (nats)", "IWAE-2 (nats)", "log p(x)", "active bits", "inference BER", "uniqueness", "novelty"):
        assert words in outcome.out
    assert "samples  here/samples_seed_0_count=4.npz" in outcome.out
    assert "picture  here/samples_seed_0_count=4.png" in outcome.out
    assert Path("here/samples_seed_0_count=4.png").read_bytes().startswith(b"\x89PNG")
    assert np.load("here/samples_seed_0_count=4.npz")["samples"].shape == (4, 12)
    assert "loading torch" in outcome.err
    assert "Note:" not in outcome.err
    assert str(run_folder / "bvae_best_model_with.pt") in outcome.out.splitlines()[0]


def test_json_is_one_object_with_the_quality(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    outcome = bvae("sample", "-w", run_folder, *FAST, "--out", "here", "--json", "-q").succeeded()
    facts = outcome.json()
    assert outcome.err == ""
    assert facts["count"] == 4
    assert facts["file"] == "here/samples_seed_0_count=4.npz"
    assert facts["picture"] == "here/samples_seed_0_count=4.png"
    assert facts["quality"]["code"] == "repetition:R=3"
    assert facts["quality"]["bounds"]["elbo"]["mean"] < 0
    assert "pictures" not in facts


def test_the_weights_have_a_name_that_old_scripts_use(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    for flag in ("-w", "--weights", "--w_save_path"):
        for path in (run_folder, run_folder / "bvae_best_model_with.pt"):
            outcome = bvae("sample", flag, path, *FAST, "--out", flag.strip("-"), "--json").succeeded()
            assert outcome.json()["quality"]["weights"] == str(run_folder / "bvae_best_model_with.pt")


def test_without_weights_the_run_of_the_same_options_is_taken(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    named = ("--hidden", 8, "--latent", 12, "--depth", 1, "--lr", 0.01, "--R", 3, "--output-dir", run_folder.parent)
    outcome = bvae("sample", *named, *FAST, "--out", "here", "--json").succeeded()
    assert "Note: R=3" in outcome.err
    assert outcome.json()["quality"]["weights"].startswith(str(run_folder))


def test_a_large_draw_says_how_much_of_it_the_picture_shows(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    outcome = bvae("sample", "-w", run_folder, "--num-samples", 401, "--iwae-samples", 1, "--out", "here").succeeded()
    assert "first 400 of 401" in outcome.err
    assert np.load("here/samples_seed_0_count=401.npz")["samples"].shape == (401, 12)


def test_a_subset_and_a_split_are_measured(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    options = ("--subset", 3, "--split", "test", "--out", "here", "--json")
    quality = bvae("sample", "-w", run_folder, *FAST, *options).succeeded().json()["quality"]
    assert (quality["rows"], quality["split"]) == (3, "test")


def test_the_samples_folder_cannot_be_a_file(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    bvae("sample", "-w", run_folder, *FAST, "--out", "bits.npy").refused(3, "Cannot write to bits.npy")


def test_a_sheet_is_drawn_instead_of_samples(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    outcome = bvae("sample", "-w", run_folder, "--out", "here", "--sweep", "m1,m4").succeeded()
    assert "m1 = 0, 1, m4 = 0, 1" in outcome.out
    assert "The rows are no pictures: each is drawn as a bar of its 12 values.\n" in outcome.err
    assert "picture  here/sweep_m1_m4_seed_0.png" in outcome.out
    assert Path("here/sweep_m1_m4_seed_0.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in Path("here").iterdir()) == ["sweep_m1_m4_seed_0.npz", "sweep_m1_m4_seed_0.png"]
    facts = bvae("sample", "-w", run_folder, "--out", "here", "--posterior", "0,1", "--json", "-q").succeeded().json()
    assert (facts["sheet"], facts["file"]) == ("posterior", "here/posterior_0_1_seed_0.npz")
    assert [fact["row"] for fact in facts["facts"]] == [0, 1]


def test_contradictory_bits_are_refused_without_torch(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    bvae("sample", "-w", run_folder, "--fix", "m1=1,m1=0").refused(2, "--fix says that m1 is 0 and that it is 1")
    bvae("sample", "-w", run_folder, "--sweep", "m1", "--between", "0,1").refused(2, "two sheets")
    bvae("evaluate", run_folder, "--fix", "m1=1").refused(2, "There is no option --fix")


def test_samples_are_not_put_among_the_pictures_that_are_the_data(bvae: Bvae, workplace: Path) -> None:
    Path("pictures").mkdir()
    for number, picture in enumerate(grey(12, 9, 9)):
        Path(f"pictures/{number}.png").write_bytes(png_bytes(picture))
    line = ("train", "--dataset", "pictures", "--hidden", 8, "--latent", 12, "--depth", 1, "--epochs", 1, "--json")
    folder = bvae(*line).succeeded().json()["folder"]
    for sheet in ((), ("--posterior", 0)):
        bvae("sample", "-w", folder, *FAST, *sheet, "--out", "pictures").refused(2, "among the pictures of")
    assert len(list(Path("pictures").iterdir())) == 12
    bvae("sample", "-w", folder, *FAST, "--out", "elsewhere").succeeded()


def test_options_that_change_nothing_of_a_sheet_are_refused(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    line: tuple[object, ...] = ()
    for sheet in (("--sweep", "m1"), ("--posterior", "0"), ("--between", "0,1")):
        line = ("sample", "-w", run_folder, *sheet, "--out", "here")
        refused = bvae(*line, "--temperature", 0.5)
        refused.refused(2, f"{sheet[0]} draws none, and shows the decoder's means", "Leave one of them out")
        assert "loading torch" not in refused.err
    bvae(*line, "--num-samples", 3).refused(2, "--num-samples says nothing to --between")
    assert not Path("here").exists()
    # A file of settings serves samples and sheets.
    Path("my.toml").write_text("temperature = 0.5\nnum_samples = 3\n")
    bvae(*line, "--config", "my.toml").succeeded()


def test_weights_given_by_themselves_are_refused_with_their_option(bvae: Bvae, run_folder: Path) -> None:
    bvae("sample", run_folder).refused(2, "extra argument", f"`bvae sample --weights {run_folder}`")
