"""Tables and curves of result files, and what is left out of them."""

import dataclasses
import itertools
import json
import os
import re

import cv2
import numpy as np
import pytest
import scipy.io
from conftest import complains, refuses, rows_of, run, succeeds
from scipy import stats

from recall import reported_k
from safa.datasets.corruptions import CORRUPTIONS
from safa.launch.corruption import grid_section
from safa.report.authors_recalls import read_recalls
from safa.report.charts import recall_figure
from safa.report.comparison import compare
from safa.report.corruption_tables import corruption_tables, without_severities
from safa.report.epoch_lines import find_runs
from safa.report.latex_tables import as_latex
from safa.report.published import OTHERS, PUBLISHED
from safa.report.result_file import check_earlier, find_results, pack, read_result, write_result
from safa.report.result_lines import result_lines, result_table
from safa.report.rows import choose, collect
from safa.report.table_formats import Line, RecallTable, as_markdown, as_text, tables_of
from safa.retrieval.confidence import recall_interval
from safa.retrieval.task import GROUND_TO_AERIAL
from safa.settings import NetworkConfig

# Of a toy town in CVACT's format, written by the commit before results had a version.
BEFORE_1_0 = os.path.join(os.path.dirname(__file__), "golden", "result.json")
RECALL_CSV = "epoch,loss,recall@1,recall@5,recall@10,recall@1%,seconds\n1,0.5,0.1,0.2,0.3,0.4,9\n"


def write(path, ranks, references=None, **changes):
    """Write a result file whose truths have these ranks, as a test of SAFA_8 with polar maps on CVUSA."""
    references, ranks = references or len(ranks), np.asarray(ranks)
    shares = {k: float(np.mean(ranks < depth)) for k, depth in reported_k(references).items()}
    with open(BEFORE_1_0, encoding="utf-8") as file:
        result = {name: value for name, value in json.load(file).items() if name not in ("heading_right", "recall_within_200m")}
    result |= {"dataset": "CVUSA", "trained_on": "CVUSA", "view": "", "network": {"network_type": "SAFA_8", "polar": 1}}
    result |= {"queries": len(ranks), "references": references, "recall": shares, "pessimistic_recall": shares}
    cost = {"parameters": 29_503_104, "gmac": 42.1, "descriptor": 4096, "milliseconds": 1234.5}
    result |= {"ranks": {"exact": ranks}, "cost": cost}
    os.makedirs(os.path.dirname(path), exist_ok=True)
    write_result(str(path), result | changes)


def drawn(seed, found=0.5, count=500):
    random = np.random.default_rng(seed)
    return np.where(random.random(count) < found, 0, random.integers(1, count, count))


@pytest.fixture
def folder(tmp_path):
    """Results of three seeds of a row, and of another row, in a folder that lies elsewhere."""
    place = tmp_path / "Result" / "CVUSA"
    for seed in range(3):
        write(place / f"SAFA_8_polar_1_seed_{seed}.json", drawn(seed), seed=seed)
    write(place / "VGG_gp_polar_0.json", drawn(5, 0.2), network={"network_type": "VGG_gp", "polar": 0})
    os.symlink(place.rename(tmp_path / "elsewhere"), place)
    return tmp_path


def test_seeds_are_one_row_in_all_formats_beside_the_curves(folder):
    place = folder / "Result" / "a $\\frac{$ 日本" / ("long" * 60)
    place.mkdir(parents=True)
    texts = {"run": RECALL_CSV, "other": RECALL_CSV, "cut": RECALL_CSV + "2,0.4,0.", "text": RECALL_CSV.replace("0.5", "low")}
    for name, text in texts.items():
        (place / f"{name}.csv").write_text(text)
    assert set(find_runs([str(place)])) == {str(place / "other"), str(place / "run")}
    process = run("recall_tables.py", output="out", others=True, cwd=folder)
    assert (process.returncode, process.stderr) == (0, ""), "no warnings of characters or of names without room"
    lines, recalls = process.stdout.splitlines(), [100 * np.mean(drawn(seed) == 0) for seed in range(3)]
    row = next(line for line in lines if line.startswith("SAFA_8, polar "))
    assert f"{np.mean(recalls):.2f} ± {np.std(recalls, ddof=1):.2f}" in row and row.split()[2] == "3"
    assert "29.50" in row and "42.1" in row and "4,096" in row and row.endswith(" 1,230")
    (interval,) = (after for line, after in itertools.pairwise(lines) if line.startswith("VGG_gp, no polar"))
    low, high = recall_interval(np.mean(drawn(5, 0.2) == 0), 500)
    assert "95 % interval" in interval and f"{100 * low:.2f}-{100 * high:.2f}" in interval
    latex = (folder / "out/tables.tex").read_text()
    assert "VGG\\_gp, no polar" in latex and "mean $\\pm$ standard deviation over 3 seeds" in latex and "\\quad 95 \\%" in latex
    columns = re.search(r"begin{tabular}{l((S\[table-format=\d\.\d(\(\d\))?\])+)}", latex)[1].count("S[")
    assert {line.count("&") for line in latex.splitlines() if line.endswith("\\\\")} == {columns}
    rows = rows_of(folder / "out/tables.csv")
    assert [row["recall@1"] for row in rows] == [f"{100 * np.mean(drawn(5, 0.2) == 0):.2f}", f"{np.mean(recalls):.2f}"]
    assert rows[1]["tied_queries"] == "0 0 0" and rows[0]["references"] == "500" and "pessimistic_recall@10" in rows[0]
    for name in "curves.png", "training.png":
        image = cv2.imread(str(folder / "out" / name))
        assert image.shape[0] >= 500 and len(np.unique(image.reshape(-1, 3), axis=0)) > 20
    assert (folder / "out/curves.pdf").read_bytes().startswith(b"%PDF")


def test_characters_that_latex_or_markdown_would_obey_stay_text():
    published = PUBLISHED["CVUSA", "SAFA_8", 1]
    line = Line("[a_b] & 1 % \\input{x} | <i> *y* _z_ $x$ ~^#", {"R@1": "1.50"}, 0, note=1)
    table = RecallTable("CVACT_test", {"R@1": "R@1 #"}, [line], {published.note: published.source}, ["A & B"])
    latex = as_latex([table])
    escaped = r"{[}a\_b] \& 1 \% \textbackslash{}input\{x\} \textbar{} \textless{}i\textgreater{} {*}y{*}"
    assert rf"{escaped} \_z\_ \$x\$ \textasciitilde{{}}\textasciicircum{{}}\#\tnote{{1}} & 1.50 \\" in latex
    assert r"CVACT\_test" in latex and r"{R@1 \#}" in latex and r"\item A \& B" in latex
    assert rf"\url{{{published.source.url}}}~\cite{{shi2019safa}}" in latex
    assert r"\[a_b\] \& 1 % \\input{x} \| \<i\> \*y\* \_z\_ \$x\$ \~^#" in as_markdown([table])


def test_rows_and_columns_are_chosen_renamed_and_ranked_within_their_task(folder):
    place = folder / "Result" / "CVUSA"
    write(place / "b.json", drawn(7, 0.9), run="b")
    write(place / "c.json", drawn(7, 0.7), run="c")
    write(place / "turned.json", drawn(8, 1.0), view="unknown_heading")
    write(place / "fewer.json", drawn(8, 1.0), run="fewer", query_ids="f" * 16)
    write(place / "other.json", drawn(9, 0.8), network=None, cost=None, name="Sample4Geo", toy_town=False)
    write(folder / "Result" / "toy.json", drawn(9, 0.8, 150), toy_town=True)
    flags = "--rows SAFA_8*=ours VGG_gp* Sample4Geo=_S4G_ --columns seeds R@1 R@20=R@twenty R@1% values".split()
    output = succeeds("recall_tables.py", *flags, output="out", cwd=folder)
    titles = re.findall(r"^(ours|VGG_gp, no polar|_S4G_) ", output, re.MULTILINE)
    assert titles == [*["ours"] * 5, "VGG_gp, no polar", "_S4G_", "ours"] and "R@5" not in output
    rest, toy = output.split("\n\n")[:2]
    assert toy.startswith("CVUSA val, toy town: 150 ") and "R@1%" not in toy  # among 150 references it is R@1
    assert rest.startswith("CVUSA val: 500 queries among 500 references\n") and "R@1%" in rest
    found = collect(find_results([str(place)]))[0]
    (table,) = tables_of(found, columns={"R@1": "R@1", "R@20": "R@20"})
    own = {line.title: line for line in table.lines if line.task}
    marks = {title: line.marks["R@1"] for title, line in own.items() if "R@1" in line.marks}
    assert len(own) == 7 and marks == {"SAFA_8, polar, run b": 1, "Sample4Geo": 2}  # the best of all is of another task
    cells = own["Sample4Geo"].cells
    assert cells["R@20"] == f"{100 * np.mean(drawn(9, 0.8) < 20):.2f}" and "values" not in cells
    latex, markdown = as_latex([table]), as_markdown([table])
    best, second = (f"{100 * np.mean(drawn(*seed) == 0):.2f}" for seed in ((7, 0.9), (9, 0.8)))
    assert rf"& \bfseries {best} &" in latex and rf"\underline{{${second}$}}" in latex and latex.count(r"\midrule") == 4
    assert f"**{best}**" in markdown and f"<ins>{second}</ins>" in markdown
    for flags, message in (
        ({"rows": "none"}, "no row has this title"),
        ({"rows": "TransGeo (published)"}, "name one of yours"),
        ({"columns": "R@0"}, "not one of seeds"),
        ({"caption": "x"}, "of one table"),
        ({"label": "}"}, "not made of letters"),
    ):
        assert message in complains("recall_tables.py", **flags, cwd=folder)
    refuses("no row has", choose, found, {"SAFA_9": ""})


def test_rows_of_several_seeds_are_tested_against_one(folder):
    place = folder / "Result" / "CVUSA"
    for seed in range(3):
        write(place / f"low_{seed}.json", drawn(20 + seed, 0.3), seed=seed, run="low")
        write(place / f"same_{seed}.json", drawn(0, 0.3), seed=seed, run="same")
        write(place / f"fixed_{seed}.json", drawn(1, 0.3), seed=seed, run="fixed")
        write(place / f"small_{seed}.json", drawn(seed), seed=seed, network={"network_type": "SAFA_8", "height": 56})
    (table,) = tables_of(collect(find_results([str(place)]))[0], against="SAFA_8, polar, run same")
    assert "are SAFA_8, polar, SAFA_8, polar, run" in complains("recall_tables.py", against="VGG_gp, no polar", cwd=folder)
    groups = (range(3), 0.5), (range(20, 23), 0.3)
    found = [[100 * np.mean(drawn(seed, share) == 0) for seed in seeds] for seeds, share in groups]
    p_values = [4 * stats.ttest_ind(each, [100 * np.mean(drawn(0, 0.3) == 0)] * 3, equal_var=False).pvalue for each in found]
    (note,) = table.notes
    assert "4 comparisons (Welch's t-test over seeds, p multiplied by 4)" in note and "VGG_gp" not in note
    assert all(f"p {min(1, p_value):.2g}" in note for p_value in p_values) and note in as_text([table])
    assert re.search(r"run fixed [+-]\d\.\d\d, no p, as no seed differs", note) and "SAFA_8, polar, 56x616, aerial" in note
    assert not tables_of(collect(find_results([str(place)]))[0], against="VGG_gp, no polar")[0].notes


def test_files_that_are_not_results_are_named_and_left_out(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    for flags, expected in ({}, "no such folder"), ({"result_dir": "."}, "no results"):
        assert expected in complains("recall_tables.py", **flags, cwd=tmp_path / "empty")
    place = folder / "Result" / "CVUSA"
    whole = (place / "VGG_gp_polar_0.json").read_text()
    content = json.loads(whole)
    changes = [
        {"recall": content["recall"] | {"1": 1.5}},
        {"recall": {"1": 0.5, "5": 0.5, "10": 0.5}},
        {"references": 100},
        {"ranks": {"exact": pack(np.full(500, -1))}},
        {"dataset": "\x1b[2J"},
        {"recall_\x1b[2J": content["recall"]},
        {"run": "$\\frac{$"},
        {"direction": "sideways"},
        {"network": {"width_multiplier": 10**400}},
    ]
    texts = [whole[:1000], "", '{"name": "package", "version": 1}', "[1, 2, 3]", "[" * 100_000]
    texts += [whole.replace(f'"1": {content["recall"]["1"]}', '"1": NaN'), *(json.dumps(content | each) for each in changes)]
    for number, text in enumerate(texts):
        (place / f"{number}.json").write_text(text)
    (place / "bytes.json").write_bytes(b"\xff\xfe\x00")
    (place / "a copy.json").write_text((place / "SAFA_8_polar_1_seed_1.json").read_text())
    (place / "folder.json").mkdir()
    os.mkfifo(place / "pipe.json")
    os.symlink("nowhere", place / "link.json")
    (place / os.fsdecode(b"latin \xe9.json")).write_text("{}")
    output = succeeds("recall_tables.py", cwd=folder)
    left_out = [line for line in output.splitlines() if re.search(r"\.json: .*; (left out|move it away)$", line)]
    for name in (*range(len(texts)), "bytes", "pipe", "link", "latin \\udce9"):
        assert any(f"/{name}.json: " in line for line in left_out), (name, left_out)
    assert any("a second result of SAFA_8, polar, seed 1" in line for line in left_out)
    assert "\x1b" not in output and len(left_out) == len(texts) + 5
    rows = [line for line in output.splitlines() if line.startswith(("SAFA_8, polar", "VGG_gp, no polar"))]
    assert len(rows) == 2 and rows[1].split()[2] == "3"


def test_seeds_on_other_pairs_are_left_out_of_a_row(folder):
    for seed, changes in (3, {"query_ids": "f" * 16}), (4, {"references": 600}):  # of a test with --skip_missing, for instance
        write(folder / f"Result/CVUSA/SAFA_8_polar_1_seed_{seed}.json", drawn(seed), seed=seed, **changes)
    for seed in 5, 6:  # one network's descriptors, for instance, under two seeds
        write(folder / f"Result/CVUSA/SAFA_8_polar_1_seed_{seed}.json", drawn(seed), seed=seed, checkpoint_digest="a")
    rows, notes = collect(find_results([str(folder / "Result"), str(folder / "Result/CVUSA")]))
    assert [len(row.results) for row in rows] == [1, 4] and len(notes) == 3
    assert notes[2].endswith("seed_6.json: a second result of SAFA_8, polar, seed 5, now under seed 6; left out")
    assert notes[0].endswith("SAFA_8, polar, seed 3 on other pairs than seed 0; left out")


def test_a_result_is_never_replaced_by_that_of_another_test(tmp_path):
    path = tmp_path / "SAFA_8_polar_1_fov_90.json"
    network = dataclasses.asdict(NetworkConfig())
    assert not NetworkConfig(aerial_input_size=320).sizes and NetworkConfig(polar=0, aerial_input_size=320).sizes
    tested = {"dataset": "CVUSA", "network": network, "direction": GROUND_TO_AERIAL}
    tested |= {"seed": 0, "split": "val", "toy_town": False}
    same, other = tested | {"run": "fov_90", "view": ""}, tested | {"view": "fov_90"}
    check_earlier(str(path), other)
    write(path, drawn(0), **(given := {"run": "fov_90", "corrupted_with": "a"}))
    check_earlier(str(path), same)
    for number, changes in enumerate(({"query_ids": "f" * 16}, {"corrupted_with": "b"}), 1):  # --skip_missing, --queries_dir
        write(path, drawn(number), **(given := given | changes))
        kept = read_result(str(tmp_path / f"SAFA_8_polar_1_fov_90.previous-{number}.json"), "")
        assert (kept.ranks["exact"] == drawn(number - 1)).all()
    refuses(r"\(toy_town False\)", check_earlier, str(path), same | {"toy_town": True})
    refuses(r"\(dataset 'CVUSA'\)", check_earlier, str(path), same | {"dataset": "cvusa"})  # of one name on some file systems
    refuses(r"test \(height 112\); move it away", check_earlier, str(path), same | {"network": network | {"height": 56}})
    refuses(r"\(run 'fov_90', view ''\); move it away, or use another --result_dir", check_earlier, str(path), other)


def test_published_recalls_stand_beside_the_same_task_only(tmp_path):
    ranks = drawn(0, 0.9, 8884)
    small = {"network_type": "SAFA_8", "height": 56, "width": 308}
    write(tmp_path / "same.json", ranks)
    write(tmp_path / "turned.json", ranks, view="unknown_heading", seed=1)
    write(tmp_path / "back.json", ranks, direction="aerial_to_ground")
    write(tmp_path / "foreign.json", ranks, trained_on="CVACT")
    write(tmp_path / "small.json", ranks, network=small)
    write(tmp_path / "few.json", np.minimum(ranks[:100], 99), run="few")
    write(tmp_path / "toy town of 8884.json", ranks, toy_town=True)
    rows, notes = collect(find_results([str(tmp_path)]))
    assert not notes and len(rows) == 7
    assert [row.kind.title() for row in rows if row.published is not None] == ["SAFA_8, polar"]
    row = rows[0]  # the paper's task first
    assert row.published is PUBLISHED["CVUSA", "SAFA_8", 1]
    assert row.differences[0] == pytest.approx(100 * np.mean(ranks == 0) - 89.84)
    table = result_table(row)
    assert ["- published [1]", "89.84", "96.93", "98.14", "99.64"] in table.texts
    assert table.below[0].startswith("[1] Shi, Liu, Yu, Li: ")
    write(tmp_path / "transfer.json", ranks, dataset="CVACT")
    text = as_text(tables_of(collect(find_results([str(tmp_path)]))[0], with_others=True))
    for (dataset, trained_on), systems in OTHERS.items():
        away = "" if trained_on is None else f", trained on {trained_on}"
        for system, published in systems.items():
            pattern = rf"(?m)^{re.escape(system)}{away} \(published\) (\[\d\]) .*{published.recalls[0]:.2f}"
            line = re.search(pattern, text)
            assert bool(line) == ((dataset, trained_on) in (("CVUSA", None), ("CVACT", "CVUSA"))), (dataset, system)
            assert not line or f"\n{line[1]} {published.note}" in text
    for column, parts in ("R@20", ["- 95 % interval"]), ("seeds", []):  # of which nothing was published
        (table,) = tables_of([row], True, {column: column})
        assert [line.title for line in table.lines] == ["SAFA_8, polar", *parts] and not table.sources
    write(tmp_path / "toy" / "small.json", drawn(0), network=small)
    write(tmp_path / "toy" / "small and foreign.json", drawn(0), network=small, trained_on="CVACT")
    write(tmp_path / "toy" / "of 500.json", drawn(0))
    toys, _ = collect(find_results([str(tmp_path / "toy")]))
    assert [row.kind.is_home for row in toys] == [True, True, False]  # in toy towns too, what is trained there comes first
    (table,) = tables_of(toys, with_others=True)
    assert not any("published" in line.title for line in table.lines) and "left out" in table.notes[0]


def test_a_network_trained_in_all_of_vigors_cities_says_so_in_the_test_across_cities(tmp_path):
    for dataset, trained_on in ("VIGOR_cross", "VIGOR"), ("VIGOR_cross", "VIGOR_cross"), ("CVACT_test", "CVACT"):
        write(tmp_path / f"{dataset} {trained_on}.json", drawn(0), dataset=dataset, trained_on=trained_on)
    titles = [row.kind.title() for row in collect(find_results([str(tmp_path)]))[0]]
    assert titles == ["SAFA_8, polar", "SAFA_8, polar", "SAFA_8, polar, trained on VIGOR"]


def test_every_published_recall_has_a_source_that_a_reader_can_open():
    rows = [*PUBLISHED.values(), *(one for systems in OTHERS.values() for one in systems.values())]
    assert all(re.search(r"https://[\w./-]+(, table \d)?$", row.note) and len(row.recalls) == 4 for row in rows)
    assert all(row.source.bibtex.startswith(f"@{row.source.kind}{{{row.source.key},\n  author = {{") for row in rows)
    assert [row.recalls[0] for row in rows if None in row.recalls] == [52.58, 53.16]  # R@10 that the source does not print
    assert all(sorted(filter(None, row.recalls)) == list(filter(None, row.recalls)) for row in rows)
    # the paper's, from method.md
    assert PUBLISHED["CVUSA", "SAFA_8", 1].recalls == (89.84, 96.93, 98.14, 99.64)
    assert PUBLISHED["CVACT", "SAFA_8", 1].recalls == (81.03, 92.80, 94.84, 98.17)


def test_a_grids_page_marks_its_published_lines_and_the_legend_of_its_curves_stands_beside_them(tmp_path):
    paths = [str(tmp_path / f"{corruption}_1.json") for corruption in CORRUPTIONS]
    for path, corruption in zip(paths, CORRUPTIONS, strict=True):
        write(path, drawn(1, count=8884), view=f"{corruption}_1")
    section = grid_section(dict(enumerate(paths)))
    assert section.rows[2][0] == "fog [1]" and section.rows[2][-1] == "67.63" and section.lines[0].startswith("[1] Zhang")
    figure = recall_figure(collect(paths)[0], {})
    figure.draw_without_rendering()
    (axes,) = figure.axes
    legend = axes.get_legend().get_window_extent()
    assert axes.bbox.x1 <= legend.x0 and legend.x1 <= figure.bbox.x1 and legend.y0 >= 0 and axes.bbox.width > 400


def test_curves_of_a_corruption_are_of_all_its_severities_or_say_which(tmp_path):
    for severity in range(1, 6):
        write(path := str(tmp_path / f"{severity}.json"), drawn(severity, count=8884), view=f"fog_{severity}")
        labels = recall_figure(without_severities(collect([path])[0]), {}).axes[0].get_legend_handles_labels()[1]
        assert labels == [f"SAFA_8, polar, fog {severity}"]  # the published recall is the mean over the severities
    rows = without_severities(collect(find_results([str(tmp_path)]))[0])
    assert recall_figure(rows, {}).axes[0].get_legend_handles_labels()[1] == ["SAFA_8, polar, fog", "published"]


def test_curves_of_descriptors_that_are_named_like_a_network_have_another_colour(tmp_path):
    write(tmp_path / "ours.json", drawn(1))
    write(tmp_path / "theirs.json", drawn(2), network=None, cost=None, name="SAFA_8")
    ours, theirs = recall_figure(collect(find_results([str(tmp_path)]))[0], {}).axes[0].lines
    assert ours.get_color() != theirs.get_color()


def test_means_over_severities_are_of_the_same_seeds_and_queries_as_the_clean_recall(tmp_path):
    for severity in range(1, 6):
        write(tmp_path / f"fog_{severity}.json", drawn(severity), view=f"fog_{severity}")
    mean, clean = 100 * np.mean([drawn(severity) == 0 for severity in range(1, 6)]), 100 * np.mean(drawn(0) == 0)
    expected = f"{mean:.2f}", f"{100 * mean / clean:.1f}"
    for changes, count in ({}, 2), ({"query_ids": "f" * 16}, 1), ({"view": "fog_3", "seed": 1}, 0):
        write(tmp_path / "one.json", drawn(0), **changes)
        (table,) = corruption_tables(collect(find_results([str(tmp_path)]))[0])
        assert [table.lines[0].cells.get(name) for name in ("mean", "of clean")] == [*expected[:count], None, None][:2]
        assert [note[:8] for note in table.notes] == ["no means"] * (count == 0)
        shown = succeeds("recall_tables.py", "--rows", "*fog*", result_dir=tmp_path, cwd=tmp_path)
        assert ("of clean" in shown) == (count == 2)


def test_the_authors_recalls_are_read_in_their_forms_and_other_files_refused(folder, tmp_path):
    percent = np.array([60.0, 80.0, 90.0])
    scipy.io.savemat(tmp_path / "a.mat", {"recall": percent[None]})
    np.save(tmp_path / "a.npy", percent / 100)
    (tmp_path / "a.txt").write_text("60, 80, 90\n", encoding="utf-8-sig")
    scipy.io.savemat(tmp_path / "from_0.mat", {"val_accuracy": np.append(0, percent / 100)[None]})  # as the authors count
    for name in "a.mat", "a.npy", "a.txt", "from_0.mat":
        np.testing.assert_allclose(read_recalls(str(tmp_path / name)), percent)
    rows, _ = collect(find_results([str(folder / "Result")]))
    lines = {line.get_label(): line for line in recall_figure(rows, {"CVUSA": percent}).axes[0].lines}
    write(toy := str(folder / "toy.json"), drawn(0), toy_town=True)
    assert len(recall_figure(collect([toy])[0], {"CVUSA": percent}).axes[0].lines) == 1
    assert lines["authors' file"].get_xydata().tolist() == [[1, 60], [2, 80], [3, 90]]
    for row in rows:
        np.testing.assert_allclose(lines[row.kind.title(False)].get_ydata(), row.curves.mean(axis=0))
    (tmp_path / "falls.txt").write_text("60 50")
    (tmp_path / "text.txt").write_text("recall")
    (tmp_path / "broken.mat").write_bytes(b"MATLAB 5.0" * 30)
    for name in ("falls.txt", "text.txt", "broken.mat", "none.npy"):
        refuses(name, read_recalls, str(tmp_path / name))
    cvusa = f"cvusa={tmp_path}/a.mat"
    for curves, output in ([f"cvact={tmp_path}/a.mat"], "out"), ([cvusa], None), (["a.mat"], "out"), ([cvusa] * 2, "out"):
        curves = itertools.chain(*(("--authors_curve", curve) for curve in curves))
        assert "--authors_curve" in complains("recall_tables.py", *curves, output=output, cwd=folder)


def test_two_results_on_the_same_queries_are_compared(folder):
    place, base = folder / "Result" / "CVUSA", drawn(0)
    better = np.where(np.arange(500) % 10 == 0, 0, base)
    write(place / "better.json", better, run="better")
    names = [str(place / "SAFA_8_polar_1_seed_0.json"), str(place / "better.json")]
    output = succeeds("recall_tables.py", "--compare", *names, cwd=folder)
    line = next(line for line in output.splitlines() if line.startswith("R@1 "))
    assert line.endswith("  differ") and f"{100 * (np.mean(better == 0) - np.mean(base == 0)):+.2f}" in line
    assert compare(names[0], names[0]).count("no difference shown") == 4
    write(place / "tied.json", base, run="tied", tied_queries=500)
    assert "\nB: " + f"{place}/tied.json\nties: 500 of 500 queries" in compare(names[0], str(place / "tied.json"))
    write(place / "others.json", base, query_ids="f" * 16)
    write(place / "few.json", base[:400] % 400, references=500)  # changed by hand
    write(place / "split.json", base, split="train")  # of descriptors without ids
    for flags in {"output": "out"}, {"others": True}, {"result_dir": "."}:
        assert f"--{next(iter(flags))}" in complains("recall_tables.py", "--compare", *names, **flags, cwd=folder)
    for other, expected in ("others", "of other queries"), ("few", "numbers of"), ("split", "splits"), ("none", "none.json"):
        refuses(expected, compare, names[0], str(place / f"{other}.json"))
    write(place / "red\x1b[31m.json", base)
    assert "\x1b" not in compare(names[0], str(place / "red\x1b[31m.json"))


def test_a_result_from_before_version_1_is_read_and_shown_and_that_of_a_collapsed_network_does_not_look_perfect(tmp_path):
    rows, notes = collect([BEFORE_1_0])
    assert not notes and rows[0].results[0].metres.within["25"] == pytest.approx(1 / 3)
    lines = "\n".join(result_lines(rows[0]))
    for expected in (
        "SAFA_2, polar, unknown heading search 4, 32x128, aerial tiles 64x64, width multiplier 0.05: 12 panoramas among 12",
        "R@1% of 12 references is recall@1",
        "rank of the truth: median 7.5, nine tenths of the queries up to 11",
        "first match: median 41.0 m from the truth, 16.67 % within 5 m, 33.33 % within 25 m",
        "descriptors of 52 values",
    ):
        assert expected in lines
    assert result_table(rows[0], ["1%"]).texts[0] == ["recall", "16.67"]
    titles = [title for title, *_ in result_table(rows[0]).texts]
    assert titles == ["recall", "- 95 % interval", "- within 200 m", "- 95 % interval", "- heading within 11.25°"]
    none = dict.fromkeys(("1", "5", "10", "1%"), 0.0)
    write(tmp_path / "a.json", np.zeros(500, int), tied_queries=500, pessimistic_recall=none)
    table = result_table(collect([str(tmp_path / "a.json")])[0][0])
    assert ["- pessimistic", "0.00"] in [line[:2] for line in table.texts]
    assert any(line.startswith("ties: 500 of 500 queries") and "collapsed" in line for line in table.notes)
