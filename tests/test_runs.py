from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bvae_cli import files, runs
from bvae_cli.checkpoints import state_bytes
from bvae_cli.config import Sizes
from bvae_cli.errors import InputOutputError, UsageError

ROW = {
    "epoch": 1,
    "training_loss": 200.123456789,
    "validation_loss": 190.5,
    "kl": 0.25,
    "beta": 0.1,
    "temperature": 0.95,
    "lr": 0.001,
    "seconds": 1.5,
}
CODE = {"type": "none", "options": {}, "n": 4, "k": 4, "digest": "d", "distribution": "bvae-cli", "version": "0"}
CONFIG: dict[str, Any] = {"digest": "0123456789abcdef", "decides": {}, "code": CODE, "data": {}}
WEIGHTS = {"w": torch.arange(6.0).reshape(2, 3), "bits": torch.tensor([1, 0], dtype=torch.uint8)}


@pytest.fixture
def run(tmp_path: Path) -> runs.Run:
    made = runs.Run(tmp_path / "run")
    made.start(CONFIG)
    return made


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if "tmp" in path.name]


@pytest.mark.parametrize(
    ("sizes", "beta", "lr", "ecc", "name"),
    [
        (
            Sizes(200, 100, 2),
            1.0,
            0.001,
            ("none", {}),
            "hidden_size_200_latent_size_100_depth_2_beta_1.0_lr_0.001",
        ),
        (
            Sizes(200, 300, 2),
            1.0,
            0.001,
            ("repetition", {"R": 3}),
            "hidden_size_200_latent_size_300_depth_2_beta_1.0_lr_0.001_ecc_repetition_R_3",
        ),
        (Sizes(1, 2, 3), 0.5, 1e-05, ("none", {}), "hidden_size_1_latent_size_2_depth_3_beta_0.5_lr_1e-05"),
        (
            Sizes(1, 2, 3),
            1.0,
            0.1,
            ("odd/../name", {"a b": "c:d/e", "g": [1]}),
            "hidden_size_1_latent_size_2_depth_3_beta_1.0_lr_0.1_ecc_odd-..-name_a-b_c-d-e_g_-1-",
        ),
    ],
)
def test_a_folders_name_says_sizes_beta_lr_and_code(
    sizes: Sizes, beta: float, lr: float, ecc: tuple[str, dict], name: str
) -> None:
    assert runs.folder_name(sizes, beta, lr, *ecc) == name
    assert "/" not in name


def test_loadtxt_reads_the_record(run: runs.Run) -> None:
    run.record(ROW)
    run.record({**ROW, "validation_loss": 180.25})
    record = np.loadtxt(run.folder / runs.LOSS_RECORD)
    assert record.shape == (2, 6)
    assert record[:, 0] == pytest.approx([200.123457] * 2, abs=1e-6)
    assert list(record[:, 1]) == [190.5, 180.25]
    header = (run.folder / runs.LOSS_RECORD).read_text().splitlines()[0]
    assert header == "# training_loss validation_loss kl beta temperature lr"


def test_the_record_is_read_back_by_column(run: runs.Run) -> None:
    run.record(ROW)
    assert runs.read_record(run.folder)["kl"] == [0.25]
    assert list(runs.read_record(run.folder)) == list(runs.RECORD_COLUMNS)


def test_the_metrics_are_one_object_an_epoch_with_times(run: runs.Run) -> None:
    run.record(ROW)
    run.record({**ROW, "epoch": 2})
    lines = (run.folder / runs.METRICS).read_text().splitlines()
    assert [json.loads(line) for line in lines] == [ROW, {**ROW, "epoch": 2}]


@pytest.mark.parametrize("epochs", [0, 1, 2, 3, 5])
def test_a_cut_record_ends_with_the_epoch_that_it_is_cut_at(run: runs.Run, epochs: int) -> None:
    for epoch in range(1, 4):
        run.record({**ROW, "epoch": epoch, "kl": float(epoch)})
    with (run.folder / runs.LOSS_RECORD).open("a") as record:
        record.write("200.1 19")  # a line that a full disk has cut short
    run.cut_record(epochs)
    if epochs <= 3:
        assert runs.read_record(run.folder)["kl"] == [1.0, 2.0, 3.0][:epochs]
        assert len((run.folder / runs.METRICS).read_text().splitlines()) == epochs
    run.cut_record(0)
    assert runs.read_record(run.folder)["kl"] == []


def test_weights_come_back_as_they_were(run: runs.Run) -> None:
    run.save_weights(CONFIG, WEIGHTS)
    for path in (run.folder, run.weights):
        back = runs.load_checkpoint(path)
        assert back.config == CONFIG
        assert back.weights.keys() == WEIGHTS.keys()
        assert all(torch.equal(back.weights[name], WEIGHTS[name]) for name in WEIGHTS)
        assert back.weights["bits"].dtype == torch.uint8


def test_the_weights_of_an_epoch_stand_beside_the_best(run: runs.Run) -> None:
    run.save_weights(CONFIG, WEIGHTS, epoch=7)
    assert not run.weights.exists()
    assert runs.load_checkpoint(run.folder / "epochs" / "epoch_0007.pt").config == CONFIG


@pytest.mark.parametrize("epoch", [None, 3])
def test_weights_bring_no_folder_back_that_vanished_with_all_that_was_in_it(tmp_path: Path, epoch: int | None) -> None:
    run = runs.Run(tmp_path / "run")
    run.start(CONFIG)
    shutil.rmtree(run.folder)
    with pytest.raises(InputOutputError):
        run.save_weights(CONFIG, WEIGHTS, epoch)
    assert not run.folder.exists()


def test_a_run_is_empty_then_unfinished_then_finished_or_diverged(tmp_path: Path) -> None:
    run = runs.Run(tmp_path / "run")
    assert run.state() == "empty"
    run.start(CONFIG)
    assert run.state() == "unfinished"
    run.finish({"state": "finished"})
    assert run.state() == "finished"
    run.finish({"state": "diverged"})
    assert run.state() == "diverged"


def test_starting_anew_leaves_nothing_of_the_run_before(run: runs.Run) -> None:
    run.record(ROW)
    run.log("said")
    run.save_weights(CONFIG, WEIGHTS)
    run.save_weights(CONFIG, WEIGHTS, epoch=1)
    run.save_state({"epoch": 1})
    run.finish({"state": "finished"})
    run.start({**CONFIG, "digest": "other"})
    assert {path.name for path in run.folder.iterdir()} == {runs.CONFIG, runs.LOSS_RECORD}
    assert runs.read_record(run.folder)["kl"] == []


def saved(run: runs.Run) -> list[tuple[str, Any]]:
    """Return the names of the states that are there, each with its epoch, or None for one that is damaged."""
    return [(path.name, None if state is None else state["epoch"]) for path, state in run.saved_states()]


def test_a_finished_run_keeps_no_state_to_resume_from(run: runs.Run) -> None:
    run.save_state({"epoch": 3, "model": WEIGHTS})
    run.save_state({"epoch": 4, "model": WEIGHTS})
    run.save_options({"threads": 1})
    ((_, state), _) = run.saved_states()
    assert state is not None
    assert torch.equal(state["model"]["w"], WEIGHTS["w"])
    run.finish({"state": "finished"})
    assert saved(run) == []
    assert run.options() is None


def test_the_state_before_the_last_is_kept_and_no_older_one(run: runs.Run) -> None:
    for epoch in (1, 2, 3):
        run.save_state({"epoch": epoch})
    assert saved(run) == [("last.pt", 3), ("previous.pt", 2)]
    (run.folder / runs.STATE).unlink()  # as where a write was killed between two names
    assert saved(run) == [("previous.pt", 2)]


def test_a_state_that_is_cut_anywhere_or_has_one_other_bit_is_damaged(run: runs.Run) -> None:
    run.save_state({"epoch": 1})
    run.save_state({"epoch": 2, "model": WEIGHTS})
    whole = (run.folder / runs.STATE).read_bytes()
    flipped = [bytearray(whole) for _ in range(10)]
    for share, content in enumerate(flipped):
        content[len(whole) * share // 10] ^= 4
    for content in [*flipped, *(whole[: len(whole) * share // 10] for share in range(10))]:
        (run.folder / runs.STATE).write_bytes(content)
        assert saved(run) == [("last.pt", None), ("previous.pt", 1)]


@pytest.mark.parametrize("metrics", [None, 3, "{", "5\n", '{"kl": "x"}\n'])
def test_a_state_whose_record_is_none_is_damaged(run: runs.Run, metrics: Any) -> None:
    (run.folder / runs.STATE).write_bytes(state_bytes({"epoch": 1, "metrics": metrics, "log_length": 0}))
    assert saved(run) == [("last.pt", None)]


def test_a_state_of_a_later_version_is_refused_as_that(run: runs.Run) -> None:
    (run.folder / runs.STATE).write_bytes(b"bvae state 2 0123 4\nabcd")
    assert saved(run) == [("last.pt", None)]
    (run.folder / runs.STATE).write_bytes(f"bvae state 2 {hashlib.sha256(b'abcd').hexdigest()} 4\nabcd".encode())
    with pytest.raises(InputOutputError, match="has format 2; this bvae reads format 1"):
        saved(run)


def test_a_run_goes_on_with_the_record_that_its_state_repeats(run: runs.Run) -> None:
    run.log("one")
    for epoch in (1, 2):
        run.record({**ROW, "epoch": epoch, "kl": float(epoch)})
    run.save_state({"epoch": 2})
    record, metrics, log = ((run.folder / name).read_bytes() for name in (runs.LOSS_RECORD, runs.METRICS, runs.LOG))
    run.log("two")
    run.record({**ROW, "epoch": 3})
    for damage in (b"", record[:40], record + b"\0\0\0", b"1 2 3"):
        (run.folder / runs.LOSS_RECORD).write_bytes(damage)
        (run.folder / runs.METRICS).unlink(missing_ok=True)
        again = runs.Run(run.folder)
        ((path, state),) = again.saved_states()
        assert state is not None
        again.go_on(path, state)
        names = (runs.LOSS_RECORD, runs.METRICS, runs.LOG)
        assert [(run.folder / name).read_bytes() for name in names] == [record, metrics, log]
    again.record({**ROW, "epoch": 3, "kl": 3.0})
    assert runs.read_record(run.folder)["kl"] == [1.0, 2.0, 3.0]


def test_going_on_from_the_state_before_leaves_the_damaged_one_behind(run: runs.Run) -> None:
    run.save_state({"epoch": 1})
    run.save_state({"epoch": 2})
    (run.folder / runs.STATE).write_bytes(b"half")
    _, (path, state) = run.saved_states()
    assert state is not None
    run.go_on(path, state)
    assert saved(run) == [("last.pt", 1)]


@pytest.mark.parametrize("name", [runs.LOSS_RECORD, runs.METRICS, runs.LOG])
def test_a_link_in_a_run_leads_no_write_out_of_it(run: runs.Run, tmp_path: Path, name: str) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    (run.folder / name).unlink(missing_ok=True)
    (run.folder / name).symlink_to(target)
    with pytest.raises(InputOutputError, match="Cannot write to"):
        run.log("said") if name == runs.LOG else run.record(ROW)
    for write in (lambda: run.save_state({"epoch": 1}), lambda: run.start(CONFIG)):
        write()
        assert target.read_text() == "precious"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"hello", pickle.dumps([1]), pickle.dumps(print)])
def test_a_state_that_cannot_be_read_is_damaged(run: runs.Run, content: bytes) -> None:
    (run.folder / runs.STATE).write_bytes(content)
    assert saved(run) == [("last.pt", None)]


def test_a_state_that_the_system_withholds_is_not_damaged(run: runs.Run) -> None:
    (run.folder / runs.STATE).mkdir()
    with pytest.raises(InputOutputError, match="is a directory"):
        saved(run)


def test_a_full_memory_is_no_damage(run: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    run.save_state({"epoch": 3, **WEIGHTS})
    run.save_weights(CONFIG, WEIGHTS)
    monkeypatch.setattr(torch, "frombuffer", fail)
    for read in (lambda: saved(run), lambda: runs.load_checkpoint(run.weights)):
        with pytest.raises(RuntimeError, match="allocate memory"):
            read()


def test_what_is_set_aside_is_whole_and_a_second_time_stands_beside_the_first(run: runs.Run) -> None:
    for number in (1, 2):
        run.start(CONFIG)
        run.record(ROW)
        run.log("said")
        run.save_weights(CONFIG, WEIGHTS)
        run.save_weights(CONFIG, WEIGHTS, epoch=1)
        run.save_state({"epoch": 1})
        before = {path.name: path.read_bytes() for path in run.folder.iterdir() if path.is_file()}
        place = run.set_aside()
        assert place == run.folder / f"damaged_{number}"
        assert {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()} == before
        assert (place / "epochs" / "epoch_0001.pt").exists()
        assert [path.name for path in run.folder.iterdir() if path.is_file()] == [runs.CONFIG]
        assert runs.Run(place).state() == "set aside"
    assert runs.open_run(run.folder.parent, run.folder.name, CONFIG["digest"]).folder == run.folder


def test_missing_weights_are_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputOutputError, match=r"There is no file .*none\.pt"):
        runs.load_checkpoint(tmp_path / "none.pt")
    with pytest.raises(InputOutputError, match="holds no bvae_best_model_with"):
        runs.load_checkpoint(tmp_path)


def test_a_folder_is_chosen_by_what_it_holds(tmp_path: Path) -> None:
    name, plain = "a_run", tmp_path / "a_run"
    assert runs.open_run(tmp_path, name, "0123456789").folder == plain
    runs.Run(plain).start({**CONFIG, "digest": "0123456789"})
    assert runs.open_run(tmp_path, name, "0123456789").folder == plain
    assert runs.open_run(tmp_path, name, "abcdef0123").folder == tmp_path / "a_run_abcdef01"


def test_a_folder_with_somebody_elses_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a_run").mkdir()
    (tmp_path / "a_run" / "notes.txt").write_text("mine")
    assert runs.open_run(tmp_path, "a_run", "abcdef0123").folder == tmp_path / "a_run_abcdef01"


def test_a_folder_with_nothing_but_a_lock_is_free(tmp_path: Path) -> None:
    (tmp_path / "a_run").mkdir()
    (tmp_path / "a_run" / ".lock").write_text("{}")
    assert runs.open_run(tmp_path, "a_run", "abcdef0123").folder == tmp_path / "a_run"


def test_two_runs_that_choose_one_folder_at_one_moment_get_two(tmp_path: Path) -> None:
    first, second = "0123456789", "abcdef0123"
    with runs.held_run(tmp_path, "a_run", first) as run:
        assert run.folder == tmp_path / "a_run"
        # While the first has not written a word but its lock; the plan of the second says the same.
        assert runs.open_run(tmp_path, "a_run", second).folder == tmp_path / "a_run_abcdef01"
        with runs.held_run(tmp_path, "a_run", second) as other:
            assert other.folder == tmp_path / "a_run_abcdef01"
            assert (other.folder / ".lock").exists()
        with pytest.raises(UsageError, match="in use by process"), runs.held_run(tmp_path, "a_run", first):
            pytest.fail("the lock did not hold")


def test_a_folder_that_was_taken_after_it_was_chosen_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = "0123456789", "abcdef0123"
    choose, chosen = runs.open_run, []

    def late(output_dir: Path, name: str, digest: str) -> runs.Run:
        chosen.append(choose(output_dir, name, digest))
        if len(chosen) == 1:  # the other run begins, and is through, before the lock is asked for
            chosen[0].start({**CONFIG, "digest": first})
        return chosen[-1]

    monkeypatch.setattr(runs, "open_run", late)
    with runs.held_run(tmp_path, "a_run", second) as run:
        assert run.folder == tmp_path / "a_run_abcdef01"
        assert not (tmp_path / "a_run" / ".lock").exists()
    assert json.loads((tmp_path / "a_run" / runs.CONFIG).read_text())["digest"] == first


def test_a_folder_that_was_locked_after_it_was_chosen_is_left_to_the_other_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "open_run", lambda output_dir, name, digest: runs.Run(output_dir / name))
    with runs.Run(tmp_path / "a_run").locked("0123456789"), runs.held_run(tmp_path, "a_run", "abcdef0123") as run:
        assert run.folder == tmp_path / "a_run_abcdef01"


def test_runs_do_not_go_into_one_another(run: runs.Run) -> None:
    with pytest.raises(UsageError, match="do not go into one another") as caught:
        runs.open_run(run.folder, "inner", "0")
    assert str(run.folder.parent) in (caught.value.hint or "")


def test_a_file_is_no_place_for_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputOutputError, match="not a folder"):
        runs.open_run(tmp_path / "file", "a", "0")


def test_runs_are_found_at_any_depth_and_by_name(tmp_path: Path) -> None:
    for name in ("b/run", "a", "c/d/e"):
        runs.Run(tmp_path / name).start(CONFIG)
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / runs.CONFIG).write_text("{}")
    assert [run.folder.relative_to(tmp_path).as_posix() for run in runs.find_runs(tmp_path)] == ["a", "b/run", "c/d/e"]
    with pytest.raises(InputOutputError, match="no folder"):
        runs.find_runs(tmp_path / "nothing")
    with pytest.raises(InputOutputError, match=r"config\.json is a file, not a folder"):
        runs.find_runs(tmp_path / "f" / runs.CONFIG)


def test_a_second_process_on_a_run_is_refused_naming_the_first(run: runs.Run) -> None:
    with run.locked():
        with pytest.raises(UsageError, match=f"in use by process {os.getpid()} on {socket.gethostname()}"), run.locked():
            pytest.fail("the lock did not hold")
        assert (run.folder / ".lock").exists()
    assert not (run.folder / ".lock").exists()
    with run.locked():
        assert (run.folder / ".lock").exists()


def test_a_lock_is_given_back_whatever_happens(run: runs.Run) -> None:
    with pytest.raises(KeyboardInterrupt), run.locked():
        raise KeyboardInterrupt
    assert not (run.folder / ".lock").exists()


def test_the_lock_of_a_process_that_is_gone_is_no_lock(run: runs.Run) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    gone = process.pid
    (run.folder / ".lock").write_text(json.dumps({"pid": gone, "host": socket.gethostname()}))
    with run.locked():
        assert json.loads((run.folder / ".lock").read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("content", ['{"pid": 1, "host": "another-machine"}', "", "[]"])
def test_the_lock_of_another_machine_holds(run: runs.Run, content: str) -> None:
    (run.folder / ".lock").write_text(content)
    if content.startswith("{"):
        with pytest.raises(UsageError, match="another-machine") as caught, run.locked():
            pytest.fail("the lock did not hold")
    else:
        with pytest.raises(UsageError) as caught, run.locked():
            pytest.fail("the lock did not hold")
        assert "is damaged" in caught.value.message
    assert "delete" in (caught.value.hint or "")
    assert (run.folder / ".lock").read_text() == content


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EIO])
def test_a_write_that_fails_names_the_place_and_leaves_the_old_file(
    number: int, run: runs.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.save_weights(CONFIG, WEIGHTS)
    before = run.weights.read_bytes()

    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    for write in (
        lambda: run.save_weights(CONFIG, {"w": torch.zeros(9)}),
        lambda: run.save_state({"epoch": 1}),
        lambda: run.finish({"state": "finished"}),
        lambda: files.write_file(run.folder / "figure.png", b"x"),
    ):
        with pytest.raises(InputOutputError) as caught:
            write()
        assert os.strerror(number).lower() in caught.value.message
        assert str(run.folder) in caught.value.message
        assert caught.value.hint
    assert run.weights.read_bytes() == before
    assert not (run.folder / "figure.png").exists()
    assert run.state() == "unfinished"
    assert leftovers(run.folder) == []


def test_an_interruption_while_writing_leaves_no_half_file(run: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run.save_weights(CONFIG, WEIGHTS)
    assert not run.weights.exists()
    assert leftovers(run.folder) == []


def test_a_file_is_written_into_a_folder_that_is_made_for_it(tmp_path: Path) -> None:
    files.write_file(tmp_path / "a" / "b" / "c.bin", b"content")
    assert (tmp_path / "a" / "b" / "c.bin").read_bytes() == b"content"
    assert leftovers(tmp_path) == []


def test_a_file_in_the_way_of_a_folder_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(InputOutputError, match="Cannot write to"):
        files.write_file(tmp_path / "a" / "b" / "c.bin", b"content")
    with pytest.raises(InputOutputError, match=r"Cannot write to .*a: it is a file, not a folder"):
        files.write_file(tmp_path / "a" / "c.bin", b"content")
    with pytest.raises(InputOutputError, match="Cannot write to"):
        runs.Run(tmp_path / "a" / "run").start(CONFIG)


@pytest.mark.parametrize("content", [b"", b"# training_lo", b"1 2 3 4 5 6\n", b"\xff\xfe\x00"])
def test_a_record_without_its_first_line_is_an_input_error(run: runs.Run, content: bytes) -> None:
    (run.folder / runs.LOSS_RECORD).write_bytes(content)
    with pytest.raises(InputOutputError, match="not a loss record"):
        runs.read_record(run.folder)


@pytest.mark.parametrize("line", ["1 2 3", "1 2 3 4 5 x", "", "1 2 3 4 5 6 7", "1 2 3 4 5 nan"])
def test_a_damaged_record_is_an_input_error(run: runs.Run, line: str) -> None:
    run.record(ROW)
    with (run.folder / runs.LOSS_RECORD).open("a") as record:
        record.write(f"{line}\n")
    with pytest.raises(InputOutputError, match="not a loss record") as caught:
        runs.read_record(run.folder)
    assert caught.value.hint


def test_a_missing_record_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputOutputError, match="holds no loss_record_with"):
        runs.read_record(tmp_path)


def test_a_name_keeps_letters_digits_and_four_signs_and_nothing_that_a_shell_or_a_system_minds() -> None:
    name = runs.folder_name(runs.Sizes(1, 2, 3), 0.5, 1e-05, "c", {"x": "a.b_c-d+e/f:g h*i", "ü": "é"})
    assert name == "hidden_size_1_latent_size_2_depth_3_beta_0.5_lr_1e-05_ecc_c_x_a.b_c-d+e-f-g-h-i_ü_é"


def test_only_a_folder_of_that_name_within_a_run_is_what_was_set_aside(tmp_path: Path) -> None:
    (tmp_path / "damaged_1").mkdir()
    assert runs.Run(tmp_path / "damaged_1").state() == "empty"
    runs.Run(tmp_path).start(CONFIG)
    assert runs.Run(tmp_path / "damaged_1").state() == "set aside"
    (tmp_path / "other").mkdir()
    assert runs.Run(tmp_path / "other").state() == "empty"


def test_a_folder_that_may_not_be_read_is_named_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputOutputError) as caught:
        runs.find_runs(tmp_path)
    assert caught.value.message == f"{tmp_path} cannot be read: permission denied."
    assert caught.value.hint == "Look at its permissions and its disk."


@pytest.mark.parametrize(("there", "message"), [(True, "holds no bvae_best_model_with.pt"), (False, "There is no file")])
def test_weights_that_are_not_there_are_said_so_and_where_runs_are_listed(tmp_path: Path, there: bool, message: str) -> None:
    with pytest.raises(InputOutputError, match=message) as caught:
        runs.weights_file(tmp_path if there else tmp_path / "nothing")
    assert caught.value.hint == "`bvae runs` lists the runs that are there."


def test_what_a_killed_process_has_left_is_gone_when_the_run_is_taken_again(run: runs.Run) -> None:
    run.save_weights(CONFIG, WEIGHTS, epoch=1)
    run.save_state({"epoch": 1})
    run.finish({"state": "finished"})
    for name in (runs.STATE, runs.PREVIOUS_STATE, runs.OPTIONS, ".bvae-x.tmp", "epochs/.bvae-1-2.tmp"):
        (run.folder / name).write_text("left")
    before = {path.name for path in run.folder.rglob("*")} - {"last.pt", "previous.pt", "options.json", ".bvae-x.tmp"}
    with run.locked():
        pass
    assert {path.name for path in run.folder.rglob("*")} == before - {".bvae-1-2.tmp"}


def test_a_folder_with_nothing_but_what_a_killed_write_has_left_is_free(tmp_path: Path) -> None:
    (tmp_path / "a_run").mkdir()
    (tmp_path / "a_run" / ".bvae-x.tmp").write_text("left")
    assert runs.open_run(tmp_path, "a_run", "0123456789").folder == tmp_path / "a_run"
    (tmp_path / "a_run" / "mine.tmp").write_text("somebody's")
    assert runs.open_run(tmp_path, "a_run", "0123456789").folder == tmp_path / "a_run_01234567"


def test_who_was_taken_over_unnoticed_writes_nothing_more(run: runs.Run) -> None:
    with run.locked():
        run.record(ROW)
        lock = json.loads((run.folder / ".lock").read_text())
        (run.folder / ".lock").write_text(json.dumps({**lock, "token": "another", "host": "elsewhere", "pid": 7}))
        before = (run.folder / runs.LOSS_RECORD).read_bytes()
        for write in (lambda: run.record(ROW), lambda: run.log("said"), lambda: run.save_state({}), lambda: run.finish({})):
            with pytest.raises(UsageError, match="was taken over by process 7 on elsewhere"):
                write()
        assert (run.folder / runs.LOSS_RECORD).read_bytes() == before


def test_what_another_process_has_written_into_the_record_is_gone_at_the_end(run: runs.Run) -> None:
    run.record(ROW)
    whole = [(run.folder / name).read_bytes() for name in (runs.LOSS_RECORD, runs.METRICS)]
    for name in (runs.LOSS_RECORD, runs.METRICS):
        with (run.folder / name).open("ab") as file:
            file.write(b"what another process says\n")
    run.finish({"state": "finished"})
    assert [(run.folder / name).read_bytes() for name in (runs.LOSS_RECORD, runs.METRICS)] == whole


def test_a_result_names_its_files_and_is_damaged_where_they_are_others(run: runs.Run) -> None:
    run.record(ROW)
    run.save_weights(CONFIG, WEIGHTS)
    run.finish({"state": "finished"})
    assert run.state() == "finished"
    told = json.loads((run.folder / runs.RESULT).read_text())["files"]
    assert told[runs.WEIGHTS] == hashlib.sha256(run.weights.read_bytes()).hexdigest()
    run.save_weights(CONFIG, {**WEIGHTS, "w": WEIGHTS["w"] + 1})
    assert run.state() == "damaged"
    with pytest.raises(InputOutputError, match="tells of other weights or another record"):
        run.require_readable_result()
    run.weights.unlink()  # who needs the room may delete them
    assert run.state() == "finished"


def test_a_state_of_another_run_is_taken_for_a_damaged_one(run: runs.Run) -> None:
    run.save_state({"epoch": 1})
    other = runs.Run(run.folder.parent / "other")
    other.start({**CONFIG, "digest": "another"})
    other.save_state({"epoch": 2})
    (run.folder / runs.PREVIOUS_STATE).write_bytes((other.folder / runs.STATE).read_bytes())
    assert saved(run) == [("last.pt", 1), ("previous.pt", None)]


def test_options_say_what_the_run_was_started_with_and_where(
    run: runs.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run.save_options({"threads": 1})
    assert run.options() == {"format": 1, "options": {"threads": 1}, "started_in": str(tmp_path)}


def test_epochs_and_seconds_are_those_of_the_files(run: runs.Run, tmp_path: Path) -> None:
    assert (run.recorded_epochs(), runs.training_seconds(run.folder)) == (0, None)
    for epoch in (1, 2, 3):
        run.record({**ROW, "epoch": epoch, "seconds": epoch})
    assert (run.recorded_epochs(), runs.training_seconds(run.folder)) == (3, 6.0)
    (run.folder / runs.LOSS_RECORD).write_bytes(b"")
    (run.folder / runs.METRICS).write_text('{"kl": 1}\n')
    assert (run.recorded_epochs(), runs.training_seconds(run.folder)) == (0, None)
    assert runs.Run(tmp_path / "none").recorded_epochs() == 0


@pytest.mark.parametrize("damage", ["missing", "{", "{}", '{"digest": "0123456789abcdef", "decides": {"seed": 3}}'])
def test_a_run_that_goes_on_has_the_configuration_that_its_state_repeats(run: runs.Run, damage: str) -> None:
    run.save_state({"epoch": 1})
    whole = (run.folder / runs.CONFIG).read_bytes()
    (run.folder / runs.CONFIG).unlink()
    if damage != "missing":
        (run.folder / runs.CONFIG).write_text(damage)
    again = runs.Run(run.folder)
    if "digest" not in damage:
        assert again.config() == CONFIG
        assert again.state() == "unfinished"
    ((path, state),) = again.saved_states()
    assert state is not None
    again.go_on(path, state)
    assert (run.folder / runs.CONFIG).read_bytes() == whole
    again.save_state({"epoch": 2})
    (run.folder / runs.CONFIG).unlink()
    assert runs.Run(run.folder).config() == CONFIG


@pytest.mark.parametrize("repeated", [{}, {"config": 5}, {"config": ["{}"]}, {"config": "{"}, {"config": "[1]"}])
def test_a_state_that_does_not_repeat_the_configuration_is_gone_on_from(run: runs.Run, repeated: dict[str, Any]) -> None:
    content = {"epoch": 1, "metrics": "", "log_length": 0, **repeated}
    (run.folder / runs.STATE).write_bytes(state_bytes(content))
    again = runs.Run(run.folder)
    ((path, state),) = again.saved_states()
    assert state is not None
    again.go_on(path, state)
    assert again.config() == CONFIG
    again.save_state({"epoch": 2})
    (run.folder / runs.CONFIG).unlink()
    assert again.config() == CONFIG


def test_runs_of_one_name_with_digits_behind_it_are_told(tmp_path: Path) -> None:
    for name in ("a_01234567", "a_89abcdef", "a_other", "b_01234567", "a_00000000"):
        made = runs.Run(tmp_path / name)
        made.start(CONFIG)
        if name != "a_00000000":
            made.save_weights(CONFIG, WEIGHTS)
    assert runs.namesakes(tmp_path / "a") == [tmp_path / "a_01234567", tmp_path / "a_89abcdef"]
    assert runs.namesakes(tmp_path / "none" / "a") == []


def test_runs_are_listed_with_what_they_have_set_aside_behind_them(run: runs.Run) -> None:
    run.save_weights(CONFIG, WEIGHTS)
    place = run.set_aside()
    (run.folder / runs.LOSS_RECORD).write_text("")
    assert [found.folder for found in runs.find_runs(run.folder.parent)] == [run.folder, place]


def test_a_result_is_of_a_record_whatever_ends_its_lines(run: runs.Run) -> None:
    run.record(ROW)
    run.finish({"state": "finished"})
    record = run.folder / runs.LOSS_RECORD
    record.write_bytes(record.read_bytes().replace(b"\n", b"\r\n"))
    assert run.state() == "finished"
    record.write_bytes(record.read_bytes().replace(b"200", b"201"))
    assert run.state() == "damaged"
    run.result()
    with pytest.raises(InputOutputError, match="tells of other weights or another record than are beside it"):
        run.require_readable_result()
    (run.folder / runs.RESULT).write_text("{")
    with pytest.raises(InputOutputError, match=r"result\.json is damaged: it cannot"):
        run.require_readable_result()


def test_every_refusal_of_a_folder_names_it_and_what_to_do(run: runs.Run, tmp_path: Path) -> None:
    file, record = tmp_path / "file", run.folder / runs.LOSS_RECORD
    file.write_text("x")
    lists = "`bvae runs` lists the runs that are there."
    again = "Train again with --overwrite, or restore the file."

    def read(content: bytes) -> dict[str, list[float]]:
        record.write_bytes(content)
        return runs.read_record(run.folder)

    header = record.read_bytes()
    for refused, sentence, hint in [
        (lambda: runs.open_run(file, "a", "0"), f"{file} is not a folder.", "Name another with --output-dir."),
        (lambda: runs.find_runs(file), f"{file} is a file, not a folder.", "Name the folder that `bvae train` wrote to."),
        (lambda: runs.read_record(tmp_path), f"{tmp_path} holds no {runs.LOSS_RECORD}.", lists),
        (lambda: read(b"1 2"), f"{record} is not a loss record: its first line does not name the columns.", again),
        (lambda: read(b""), f"{record} is not a loss record: its first line does not name the columns.", again),
        (lambda: read(header + b"1 2"), f"{record} is not a loss record: its rows do not hold 6 numbers.", again),
        (lambda: read(b"\xff\xfe"), f"{record} is not a loss record: it is no text: byte 0 is not UTF-8.", again),
    ]:
        with pytest.raises(InputOutputError) as caught:
            refused()
        assert caught.value.message.startswith(sentence)
        assert caught.value.hint == hint
    record.unlink()
    record.mkdir()
    with pytest.raises(InputOutputError, match="is a directory") as caught:
        runs.read_record(run.folder)
    assert str(record) in caught.value.message
    with pytest.raises(InputOutputError, match="name too long") as caught:
        runs.open_run(tmp_path / ("x" * 300), "a", "0")
    assert "xxx" in caught.value.message
    (tmp_path / "empty").mkdir()
    assert runs.find_runs(tmp_path / "empty") == []


def test_the_names_of_a_runs_files_are_those_that_users_know() -> None:
    assert (runs.LOG, runs.METRICS, runs.STATE) == ("training_log.txt", "metrics.jsonl", "last.pt")
    sizes = Sizes(1, 2, 3)
    short, long = (
        runs.folder_name(sizes, 1.0, 0.1, "x", {"m": "1" * 60}),
        runs.folder_name(sizes, 1.0, 0.1, "x", {"m": "1" * 61}),
    )
    assert short.endswith("_m_" + "1" * 60)
    assert long.endswith("_m_" + hashlib.sha256(b"1" * 61).hexdigest()[:8])


def test_an_older_result_beside_a_state_leaves_the_run_unfinished(run: runs.Run) -> None:
    run.record(ROW)
    run.finish({"state": "finished"})
    older = (run.folder / runs.RESULT).read_bytes()
    run.start(CONFIG)
    run.log("one")
    run.record({**ROW, "kl": 7.0})
    run.save_state({"epoch": 1})
    (run.folder / runs.RESULT).write_bytes(older)
    assert run.state() == "unfinished"
    with run.locked():
        pass
    assert (run.folder / runs.STATE).exists()
    assert (run.folder / runs.LOG).read_text() == "one\n"
