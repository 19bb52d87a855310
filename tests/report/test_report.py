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
    folder = RunFolder(tmp_path / "run")
    folder.write_metrics(ROWS)
    assert (tmp_path / "run" / "metrics.csv").read_text().splitlines() == [
        "round,eval_loss,eval_accuracy,loss,accuracy,seconds",
        "0,2.0,0.4,,,",
        "1,,,1.9,0.42,1.0",
        "2,1.7,0.5,1.8,0.45,1.0",
    ]


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
