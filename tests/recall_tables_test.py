"""Tables and curves of result files, and what is left out of them."""

import json
import os
import re

import cv2
import numpy as np
import pytest
from conftest import complains, succeeds

from recall import reported_k
from safa.report.authors_recalls import read_recalls
from safa.report.charts import recall_figure
from safa.report.comparison import compare
from safa.report.epoch_lines import find_runs
from safa.report.published import OTHERS, PUBLISHED
from safa.report.result_file import find_results, pack, read_result, write_result
from safa.report.result_lines import recall_cells, result_lines
from safa.report.rows import collect
from safa.report.table_formats import RecallTable, as_latex, as_markdown, as_text, tables_of
from safa.retrieval.confidence import recall_interval
from safa.runtime.errors import UserError


def write(path, ranks, references=None, **changes):
    """Write a result file whose truths have these ranks, as a test of SAFA_8 with polar maps on CVUSA."""
    references = references or len(ranks)
    ranks = np.asarray(ranks)
    shares = {k: float(np.mean(ranks < depth)) for k, depth in reported_k(references).items()}
    result = {
        "dataset": "CVUSA",
        "split": "val",
        "trained_on": "CVUSA",
        "network": {"network_type": "SAFA_8", "polar": 1},
        "run": None,
        "seed": 0,
        "direction": "ground_to_aerial",
        "view": "",
        "checkpoint": "Model/CVUSA/SAFA_8/polar_1/best/ckpt-1",
        "queries": len(ranks),
        "references": references,
        "recall": shares,
        "tied_queries": 0,
        "pessimistic_recall": shares,
        "rank": {"median": 1.0, "90%": 3.0},
        "query_ids": "0" * 16,
        "ranks": {"exact": ranks, "first_match": np.zeros_like(ranks)},
        "cost": {"parameters": 29_503_104, "gmac": 42.1, "descriptor": 4096, "milliseconds": 300.0},
    }
    os.makedirs(os.path.dirname(path), exist_ok=True)
    write_result(str(path), result | changes)


def drawn(seed, found=0.5, count=500):
    random = np.random.default_rng(seed)
    return np.where(random.random(count) < found, 0, random.integers(1, count, count))


@pytest.fixture
def folder(tmp_path):
    """Results of three seeds of a row, of another row, and files that are none."""
    place = tmp_path / "Result" / "CVUSA"
    for seed in range(3):
        write(place / f"SAFA_8_polar_1_seed_{seed}.json", drawn(seed), seed=seed)
    write(place / "VGG_gp_polar_0.json", drawn(5, 0.2), network={"network_type": "VGG_gp", "polar": 0})
    return tmp_path


def test_seeds_are_one_row_with_mean_and_deviation(folder):
    output = succeeds("recall_tables.py", cwd=folder)
    recalls = [100 * np.mean(drawn(seed) == 0) for seed in range(3)]
    row = next(line for line in output.splitlines() if line.startswith("SAFA_8, polar "))
    assert f"{np.mean(recalls):.2f} ± {np.std(recalls, ddof=1):.2f}" in row and row.split()[2] == "3"
    lines = output.splitlines()
    other = lines.index(next(line for line in lines if line.startswith("VGG_gp, no polar")))
    low, high = recall_interval(np.mean(drawn(5, 0.2) == 0), 500)
    assert "95 % interval" in lines[other + 1] and f"{100 * low:.2f}-{100 * high:.2f}" in lines[other + 1]
    assert "29.50" in row and "42.1" in row and "4,096" in row and "300" in row


def test_files_that_are_no_results_are_named_and_left_out(folder):
    place = folder / "Result" / "CVUSA"
    whole = (place / "VGG_gp_polar_0.json").read_text()
    content = json.loads(whole)
    broken = {
        "cut off": whole[:1000],
        "empty": "",
        "foreign": '{"name": "package", "version": 1}',
        "list": "[1, 2, 3]",
        "deep": "[" * 100_000,
        "recall above 1": json.dumps(content | {"recall": content["recall"] | {"1": 1.5}}),
        "recall of text": json.dumps(content | {"recall": content["recall"] | {"5": "0.5"}}),
        "not a number": whole.replace(f'"1": {content["recall"]["1"]}', '"1": NaN'),
        "polar 7": json.dumps(content | {"network": {"polar": 7}}),
        "no queries": json.dumps(content | {"queries": 0}),
        "huge": json.dumps(content | {"queries": 10**12}),
        "ranks of others": json.dumps(content | {"queries": 499}),
        "beyond": json.dumps(content | {"references": 100}),
        "negative": json.dumps(content | {"ranks": {"exact": pack(np.full(500, -1))}}),
        "escape": json.dumps(content | {"dataset": "\x1b[2J"}),
        "cost of text": json.dumps(content | {"cost": content["cost"] | {"gmac": "many"}}),
        "huge cost": json.dumps(content | {"cost": content["cost"] | {"parameters": 10**400}}),
        "huge heading": json.dumps(content | {"heading_right": 10**400}),
        "ties of text": json.dumps(content | {"tied_queries": "many"}),
        "recall's escape": json.dumps(content | {"recall_\x1b[2J": content["recall"]}),
        "run's escape": json.dumps(content | {"run": "\x1b[2J"}),
        "half a character": json.dumps(content | {"run": "\ud800"}),
        "formula": json.dumps(content | {"run": "$\\frac{$"}),
        "long": json.dumps(content | {"view": "a" * 10_000}),
        "sideways": json.dumps(content | {"direction": "sideways"}),
        "type's escape": json.dumps(content | {"network": {"network_type": "\x1b[2J"}}),
        "line's end": json.dumps(content | {"run": "a\n"}),
        "without a recall": json.dumps({name: value for name, value in content.items() if name != "recall"}),
        "huge width": json.dumps(content | {"network": {"width_multiplier": 10**400}}),
    }
    for name, text in broken.items():
        (place / f"{name}.json").write_text(text)
    (place / "bytes.json").write_bytes(b"\xff\xfe\x00")
    (place / "a copy.json").write_text((place / "SAFA_8_polar_1_seed_1.json").read_text())
    (place / "folder.json").mkdir()
    os.mkfifo(place / "pipe.json")
    os.symlink("nowhere", place / "link.json")
    (place / os.fsdecode(b"latin \xe9.json")).write_text("{}")
    output = succeeds("recall_tables.py", output="out", cwd=folder)
    left_out = [line for line in output.splitlines() if re.search(r"\.json: .*; (left out|move it away)$", line)]
    for name in (*broken, "bytes", "pipe", "link", "latin \\udce9"):
        assert any(f"{name}.json: " in line for line in left_out), (name, left_out)
    assert any("a second result of SAFA_8, polar, seed 1" in line for line in left_out)
    assert "\x1b" not in output and len(left_out) == len(broken) + 5
    rows = [line for line in output.splitlines() if line.startswith(("SAFA_8, polar", "VGG_gp, no polar"))]
    assert len(rows) == 2 and rows[1].split()[2] == "3"


def test_a_collapsed_network_does_not_look_perfect_in_a_table(tmp_path):
    write(
        tmp_path / "a.json", np.zeros(500, int), tied_queries=500, pessimistic_recall=dict.fromkeys(("1", "5", "10", "1%"), 0.0)
    )
    (table,) = tables_of(collect([str(tmp_path / "a.json")])[0])
    assert ["- pessimistic", "", "0.00"] in [line[:3] for line in table.lines]


def test_a_file_of_epochs_that_is_broken_and_a_folder_named_like_a_formula_leave_the_curves_alone(folder):
    header = "epoch,loss,recall@1,recall@5,recall@10,recall@1%,seconds\n"
    whole, place = header + "1,0.5,0.1,0.2,0.3,0.4,9\n", folder / "Result" / "a $\\frac{$"
    place.mkdir()
    (place / "run.csv").write_text(whole)
    (place / "cut.csv").write_text(whole + "2,0.4,0.")
    (place / "text.csv").write_text(whole.replace("0.5", "low"))
    succeeds("recall_tables.py", output="out", cwd=folder)
    assert set(find_runs([str(place)])) == {str(place / "run")}
    assert cv2.imread(str(folder / "out/training.png")) is not None


def test_published_recalls_stand_beside_the_same_task_only(tmp_path):
    ranks = drawn(0, 0.9, 8884)
    for name, changes in {
        "same": {},
        "turned": {"view": "unknown_heading", "seed": 1},
        "back": {"direction": "aerial_to_ground"},
        "foreign": {"trained_on": "CVACT"},
        "small": {"network": {"network_type": "SAFA_8", "height": 56, "width": 308}},
    }.items():
        write(tmp_path / f"{name}.json", ranks, **changes)
    write(tmp_path / "few.json", np.minimum(ranks[:100], 99), run="few")
    rows, notes = collect(find_results([str(tmp_path)]))
    assert not notes and len(rows) == 6
    assert [row.kind.title() for row in rows if row.published is not None] == ["SAFA_8, polar"]
    row = next(row for row in rows if row.published is not None)
    assert row.published is PUBLISHED["CVUSA", "SAFA_8", 1]
    assert row.differences[0] == pytest.approx(100 * np.mean(ranks == 0) - 89.84)
    assert rows.index(row) == 0  # the paper's task first
    for name, changes in {"small and foreign": {"trained_on": "CVACT"}, "small": {}}.items():
        write(tmp_path / "toy" / f"{name}.json", drawn(0), network={"network_type": "SAFA_8", "height": 56}, **changes)
    toys, _ = collect(find_results([str(tmp_path / "toy")]))
    assert [row.kind.is_home for row in toys] == [True, False]  # in toy towns too, what is trained there comes first
    text = as_markdown(tables_of(rows))
    assert (
        re.search(r"\| - published \[1\] *\| *\| *89.84 \| *96.93 \| *98.14 \| *99.64 ", text)
        and "[1] Shi, Liu, Yu, Li: " in text
    )
    text = as_text(tables_of(rows, with_others=True))
    for system, published in OTHERS["CVUSA"].items():  # each number names its source
        number = re.search(rf"^{re.escape(system)} \(published\) (\[\d\]) .*{published.recalls[0]:.2f}", text, re.MULTILINE)[1]
        assert f"\n{number} {published.source}" in text


def test_every_published_recall_has_a_source():
    rows = [*PUBLISHED.values(), *(one for systems in OTHERS.values() for one in systems.values())]
    assert all(one.source and len(one.recalls) == 4 and one.recalls[0] is not None for one in rows)
    # the paper's, from method.md
    assert PUBLISHED["CVUSA", "SAFA_8", 1].recalls == (89.84, 96.93, 98.14, 99.64)
    assert PUBLISHED["CVACT", "SAFA_8", 1].recalls == (81.03, 92.80, 94.84, 98.17)


def test_tables_and_curves_are_written_in_all_formats(folder):
    output = succeeds("recall_tables.py", output="out", others=True, cwd=folder)
    assert "Sample4Geo (published)" in output
    latex = (folder / "out/tables.tex").read_text()
    assert "\\toprule" in latex and "VGG\\_gp, no polar" in latex and "$\\pm$" in latex
    assert r"a\_b \& 1 \% \textbackslash{} \{x\} &    1.50" in as_latex([RecallTable("a", [["a_b & 1 % \\ {x}", "1.50"]], [])])
    assert latex.count("\\begin{tabular}") == latex.count("\\end{tabular}") == 1
    columns = re.search(r"begin{tabular}{(\w+)}", latex)[1]
    lines = [line for line in latex.splitlines() if line.endswith("\\\\")]
    assert all(line.count("&") == len(columns) - 1 for line in lines)
    rows = (folder / "out/tables.csv").read_text().splitlines()
    assert len(rows) == 3 and len({len(row.split(",")) for row in rows}) == 1
    recalls = [100 * np.mean(drawn(seed) == 0) for seed in range(3)]
    assert f"{np.mean(recalls):.2f}" in rows[1] + rows[2]
    image = cv2.imread(str(folder / "out/curves.png"))
    assert image.shape[0] >= 600 and len(np.unique(image.reshape(-1, 3), axis=0)) > 20
    assert (folder / "out/curves.pdf").read_bytes().startswith(b"%PDF")


def test_the_authors_recalls_are_read_in_their_forms_and_other_files_refused(folder, tmp_path):
    import scipy.io

    percent = np.array([60.0, 80.0, 90.0])
    scipy.io.savemat(tmp_path / "a.mat", {"recall": percent[None]})
    np.save(tmp_path / "a.npy", percent / 100)
    (tmp_path / "a.txt").write_text("60, 80, 90\n")
    scipy.io.savemat(
        tmp_path / "from_0.mat", {"val_accuracy": np.append(0, percent / 100)[None]}
    )  # as the authors' scripts count
    for name in ("a.mat", "a.npy", "a.txt", "from_0.mat"):
        np.testing.assert_allclose(read_recalls(str(tmp_path / name)), percent)
    succeeds("recall_tables.py", output="out", authors_curve=f"cvusa={tmp_path / 'a.mat'}", cwd=folder)
    rows, _ = collect(find_results([str(folder / "Result")]))
    lines = {line.get_label(): line for line in recall_figure(rows, {"CVUSA": percent}).axes[0].lines}
    assert lines["authors' file"].get_xydata().tolist() == [[1, 60], [2, 80], [3, 90]]
    for row in rows:
        np.testing.assert_allclose(lines[row.kind.title(False)].get_ydata(), row.curve)
    for flags in (
        {"authors_curve": f"cvact={tmp_path / 'a.mat'}", "output": "out"},
        {"authors_curve": f"cvusa={tmp_path / 'a.mat'}"},
    ):
        assert "--authors_curve" in complains("recall_tables.py", **flags, cwd=folder)
    (tmp_path / "falls.txt").write_text("60 50")
    (tmp_path / "text.txt").write_text("recall")
    (tmp_path / "broken.mat").write_bytes(b"MATLAB 5.0" * 30)
    for name in ("falls.txt", "text.txt", "broken.mat", "none.npy"):
        message = complains("recall_tables.py", output="out", authors_curve=f"cvusa={tmp_path / name}", cwd=folder)
        assert name in message
    assert "--authors_curve" in complains("recall_tables.py", authors_curve="a.mat", cwd=folder)


def test_two_results_on_the_same_queries_are_compared(folder):
    place = folder / "Result" / "CVUSA"
    base = drawn(0)
    better = np.where(np.arange(500) % 10 == 0, 0, base)
    write(place / "better.json", better, run="better")
    names = [str(place / "SAFA_8_polar_1_seed_0.json"), str(place / "better.json")]
    output = succeeds("recall_tables.py", "--compare", *names, cwd=folder)
    line = next(line for line in output.splitlines() if line.startswith("R@1 "))
    assert line.endswith("  differ") and f"{100 * (np.mean(better == 0) - np.mean(base == 0)):+.2f}" in line
    same = succeeds("recall_tables.py", "--compare", names[0], names[0], cwd=folder)
    assert same.count("no difference shown") == 4
    write(place / "others.json", base, query_ids="f" * 16)
    message = complains("recall_tables.py", "--compare", names[0], str(place / "others.json"), cwd=folder)
    assert "of other queries" in message
    for name, count in (("few", 400), ("many", 500)):  # changed by hand
        write(place / f"{name}.json", base[:count] % 400, references=500)
    with pytest.raises(UserError, match="numbers of queries"):
        compare(str(place / "few.json"), str(place / "many.json"))
    assert "none.json" in complains("recall_tables.py", "--compare", names[0], "none.json", cwd=folder)
    assert "leave the other flags out" in complains("recall_tables.py", "--compare", *names, output="out", cwd=folder)
    write(place / "red\x1b[31m.json", base)
    assert "\x1b" not in succeeds("recall_tables.py", "--compare", names[0], str(place / "red\x1b[31m.json"), cwd=folder)


def test_a_result_file_comes_back_as_it_was_written(tmp_path):
    write(tmp_path / "a.json", drawn(3))
    result = read_result(str(tmp_path / "a.json"), "test again")
    np.testing.assert_array_equal(result.ranks["exact"], drawn(3))
    assert (tmp_path / "a.json").stat().st_size < 6000  # 500 ranks are compact


def test_a_result_from_before_version_1_is_read_and_shown():
    """tests/golden/result.json: of a toy town, written by the commit before results had a version."""
    rows, notes = collect([os.path.join(os.path.dirname(__file__), "golden", "result.json")])
    assert not notes and rows[0].results[0].metres.within["25"] == pytest.approx(1 / 3)
    lines = "\n".join(result_lines(rows[0]))
    for expected in (
        "CVACT val, SAFA_2, polar, unknown heading search 4, 32x128, aerial tiles 64x64",
        "12 panoramas among 12 aerial images",
        "R@1% of 12 references is recall@1",
        "rank of the truth: median 7.5, nine tenths of the queries up to 11",
        "first match: median 41.0 m from the truth, 16.67 % within 5 m, 33.33 % within 25 m",
        "descriptors of 52 values",
    ):
        assert expected in lines
    assert [line for line, *_ in recall_cells(rows[0])[0]] == [
        "recall",
        "- 95 % interval",
        "- within 200 m",
        "- 95 % interval",
        "- heading within 11.25°",
    ]


def test_the_published_recalls_and_ties_stand_beside_a_tests_own(tmp_path):
    write(tmp_path / "a.json", drawn(0, 0.9, 8884), tied_queries=3)
    cells, below = recall_cells(collect([str(tmp_path / "a.json")])[0][0])
    published = next(line for line in cells if line[0] == "- published [1]")
    assert published[1:] == ["89.84", "96.93", "98.14", "99.64"] and below[0].startswith("[1] Shi, Liu, Yu, Li: ")
    assert any(line.startswith("ties: 3 of 8,884 queries") for line in below)
    assert "- pessimistic" in [line[0] for line in cells]


def test_no_results_are_one_line(tmp_path):
    assert "no such folder" in complains("recall_tables.py", cwd=tmp_path)
    (tmp_path / "Result").mkdir()
    assert "no results" in complains("recall_tables.py", cwd=tmp_path)
