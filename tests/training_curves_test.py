"""Curves of training are drawn from the CSV files of one or several runs."""

import cv2
import numpy as np
from conftest import complains, succeeds

from safa.report.epoch_lines import write_lines

BLUE, ORANGE = (31, 119, 180), (255, 127, 14)  # of Matplotlib's first two lines


def lines(count, loss):
    return [[str(epoch), f"{loss / epoch:.6f}", *["0.500000"] * 4, "1.00"] for epoch in range(1, count + 1)]


def colours(path):
    picture = cv2.imread(str(path))
    assert picture.shape[0] > 300 and picture.shape[1] > 2 * picture.shape[0]
    return {colour for colour in (BLUE, ORANGE) if (picture == colour[::-1]).all(axis=2).sum() > 50}


def test_one_run_or_several(tmp_path):
    (tmp_path / "Result/CVUSA").mkdir(parents=True)
    first, second = (str(tmp_path / f"Result/CVUSA/SAFA_{number}_polar_1.csv") for number in (1, 2))
    write_lines(first, lines(5, 1.0))
    assert "SAFA_1_polar_1" in succeeds("training_curves.py", cwd=tmp_path)  # all below Result
    assert colours(tmp_path / "training.png") == {BLUE}
    write_lines(second, lines(1, 0.5))
    write_lines(second, lines(30, 0.5))
    succeeds("training_curves.py", first, second, output=tmp_path / "two.png", cwd=tmp_path)
    assert colours(tmp_path / "two.png") == {BLUE, ORANGE}
    succeeds("training_curves.py", "Result", output="all.png", cwd=tmp_path)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "all.png")), cv2.imread(str(tmp_path / "two.png")))


def test_files_that_are_no_runs_are_refused(tmp_path):
    run = tmp_path / "run.csv"
    write_lines(str(run), lines(3, 1.0))
    whole = run.read_text()
    for content in whole.replace("0.333333", "a third"), whole.rpartition(",")[0], "a,b\n1,2\n", "\0" * 100:
        (tmp_path / "broken.csv").write_text(content)
        assert "broken.csv: not a file of losses" in complains("training_curves.py", "run.csv", "broken.csv", cwd=tmp_path)
    (tmp_path / "empty").mkdir()
    for words, flags, expected in (
        ((), {}, "Result: no epochs"),
        (("none.csv",), {}, "none.csv: no epochs"),
        (("empty",), {}, "empty: no epochs"),
        (("run.csv",), {"output": "curves.pdf"}, "PNG"),
        (("run.csv",), {"output": "none/a.png"}, "--output"),
    ):
        assert expected in complains("training_curves.py", *words, **flags, cwd=tmp_path)
    assert not (tmp_path / "training.png").exists()
