"""The CSV file of a run's epochs."""

from safa.report.epoch_lines import read_lines
from safa.training.log import TrainingLog
from safa.training.run_folder import RunPaths


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
