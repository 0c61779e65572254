"""The CSV files of runs' epochs, and the curves that are drawn from them."""

import cv2
from conftest import complains, refuses, succeeds

from safa.report.charts import training_curves
from safa.report.epoch_lines import read_lines, write_lines
from safa.training.log import TrainingLog
from safa.training.run_folder import RunPaths

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
    named = training_curves(dict.fromkeys(("_a", "b$"), read_lines(first))).axes[0].get_legend_handles_labels()[1]
    assert named == [" _a", r"b\$"]  # Matplotlib would leave the first one out


def test_files_that_are_no_runs_are_refused(tmp_path):
    write_lines(str(tmp_path / "run.csv"), lines(3, 1.0))
    whole = (tmp_path / "run.csv").read_text()
    for content in whole.replace("0.333333", "a third"), whole.rpartition(",")[0], "a,b\n1,2\n", "\0" * 100:
        (tmp_path / "broken.csv").write_text(content)
        refuses("broken.csv: not a file of losses", read_lines, str(tmp_path / "broken.csv"))
    assert "none.csv: no epochs" in complains("training_curves.py", "none.csv", cwd=tmp_path)
    assert "PNG" in complains("training_curves.py", "run.csv", output="curves.pdf", cwd=tmp_path)


def test_two_runs_that_share_a_csv_file_lose_no_line(tmp_path):
    path = str(tmp_path / "Result/a.csv")
    recalls = {"1": 0.5, "5": 1.0, "10": 1.0, "1%": 0.5}
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        log = TrainingLog(RunPaths(str(tmp_path / name), path, ""))
        assert (log.put_foreign_lines_aside() is None) == (name == "one")
        for epoch in (1, 2):
            log.epoch(epoch, {"one": 0.25, "other": 0.75}[name], recalls, 1.0, 10.0, epoch)
    log = TrainingLog(RunPaths(str(tmp_path / "one"), path, ""))  # goes on
    kept = log.put_foreign_lines_aside()
    log.epoch(3, 0.2, recalls, 1.0, 10.0, 3)
    assert [line[:2] for line in read_lines(path)] == [["1", "0.250000"], ["2", "0.250000"], ["3", "0.200000"]]
    assert [line[:2] for line in read_lines(kept)] == [["1", "0.750000"], ["2", "0.750000"]]
    log.epoch(2, 0.3, recalls, 1.0, 10.0, 2)  # an epoch that is repeated takes the place of its line and later ones
    assert [line[:2] for line in read_lines(path)] == [["1", "0.250000"], ["2", "0.300000"]]
