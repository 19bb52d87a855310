import errno

import numpy as np
import pytest

from fedloom._files import replacing, write_text
from fedloom.report import RunFolder, next_run_dir, plot_curve

ROWS = [
    {"round": 0, "eval_loss": 2.0, "eval_accuracy": 0.4},
    {"round": 1, "loss": 1.9, "accuracy": 0.42, "seconds": 1.0},
    {"round": 2, "loss": 1.8, "accuracy": 0.45, "eval_loss": 1.7, "eval_accuracy": 0.5, "seconds": 1.0},
]


def test_metrics_have_one_line_per_round_and_gaps_where_nothing_was_measured(tmp_path):
    with RunFolder(tmp_path / "run") as folder:
        folder.write_metrics(ROWS)
    assert (tmp_path / "run" / "metrics.csv").read_text().splitlines() == [
        "round,eval_loss,eval_accuracy,loss,accuracy",
        "0,2.0,0.4,,",
        "1,,,1.9,0.42",
        "2,1.7,0.5,1.8,0.45",
    ]


def test_clocks_have_a_file_of_their_own_so_that_the_same_run_has_the_same_metrics(tmp_path):
    with RunFolder(tmp_path / "run") as folder:
        folder.write_metrics([ROWS[0], ROWS[1] | {"compute_seconds": 0.5}])
    lines = (tmp_path / "run" / "timing.csv").read_text().splitlines()
    assert lines[0].split(",")[:2] == ["round", "seconds"] and lines[2].split(",")[:4] == ["1", "1.0", "", "0.5"]


def test_a_table_of_clients_takes_new_columns_and_forgets_rounds_that_are_done_again(tmp_path):
    with RunFolder(tmp_path / "run") as folder:
        folder.add_clients([{"round": 1, "client": "ada", "reason": "lost"}])
        folder.add_clients([{"round": 2, "client": "bob, the second", "loss": 0.5, "reason": ""}])
        folder.add_clients([{"round": 3, "client": "cy", "reason": "gone"}])
        path = folder.path / "clients.csv"
        assert path.read_text() == 'round,client,reason,loss\n1,ada,lost,\n2,"bob, the second",,0.5\n3,cy,gone,\n'
        path.write_text(path.read_text()[:-4])  # as a kill in the middle of a line leaves it
        folder.forget_after(2)
        assert path.read_text() == 'round,client,reason,loss\n1,ada,lost,\n2,"bob, the second",,0.5\n'


def test_the_curve_is_a_picture_with_something_on_it(tmp_path):
    from matplotlib.image import imread

    plot_curve(ROWS, tmp_path / "curve.png", title="a run")
    image = imread(tmp_path / "curve.png")
    assert image.shape[0] > 300 and image.shape[1] > 2 * image.shape[0]
    assert np.unique(image.reshape(-1, image.shape[-1]), axis=0).shape[0] > 20


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a.txt", "new \ud800")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_named_and_leaves_the_old_file(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(OSError, match="The disk is full: .*a.txt"), replacing(tmp_path / "a.txt") as unfinished:
        unfinished.write_text("half of")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_the_next_run_dir_is_free(tmp_path):
    assert next_run_dir(tmp_path, "job").name == "job-001"
    (tmp_path / "job-001").mkdir()
    assert next_run_dir(tmp_path, "job").name == "job-002"
