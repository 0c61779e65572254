"""Descriptors computed elsewhere get the result that a test of this project's would write, or one line."""

import io
import json
import re
import zipfile

import numpy as np
import pytest
import scipy.io
from conftest import complains, refuses, succeeds, unit

from safa.retrieval.saved_descriptors import read_descriptors
from safa.retrieval.task import DIRECTIONS

RANDOM = np.random.default_rng(0)
SAT = unit(RANDOM.normal(size=(50, 16)))
GRD = unit(SAT + RANDOM.normal(0, 0.25, SAT.shape))
R1 = np.mean((GRD @ SAT.T).argmax(axis=1) == np.arange(50))
FIELD = {"sat_global_descriptor": SAT, "grd_global_descriptor": GRD}
UNLIKE = {"precision", "device", "seconds", "session", "sat_files", "grd_files", "computation", "run_began"}


def save(folder, name="d.npz", **arrays):
    np.savez(folder / name, **({"sat_descriptors": SAT, "grd_descriptors": GRD} | arrays))
    return name


def result_of(folder, name="d", dataset="X"):
    return json.loads((folder / "Result" / dataset / "descriptors" / f"{name}.json").read_text())


def test_the_files_of_a_test_give_the_very_result_of_the_test(with_network):
    network = {"network_type": "SAFA_2", "radius": 30}
    for direction, file, ending in zip(DIRECTIONS, ("d.npz", "d.mat"), ("", "_aerial_to_ground"), strict=True):
        saved = {"d.npz": "save_descriptors", "d.mat": "save_mat"}[file]
        succeeds("test_cvact.py", **network, direction=direction, **{saved: file}, cwd=with_network)
        test = json.loads((with_network / f"Result/CVACT/SAFA_2_polar_1{ending}.json").read_text())
        flags = {"dataset": "cvact", "radius": 30, "direction": direction, "report": not ending}
        output = succeeds("evaluate_descriptors.py", file, **flags, cwd=with_network)
        assert "CVACT val, toy town, d" in output and "warning" not in output
        found = result_of(with_network, f"d{ending}", "CVACT")
        differ = {name for name in test if found.get(name) != test[name]}
        assert {"ranks", "metres", "recall_within_30m", "intervals", "query_ids", "toy_town"} <= test.keys() - differ
        assert differ <= {"network", "cost", "checkpoint", "checkpoint_digest", "trained_on"} | UNLIKE
    page = (with_network / "Result/CVACT/descriptors/d.html").read_text()
    assert page.count("<img") >= 6  # curves, similarities, places, queries
    table = succeeds("recall_tables.py", cwd=with_network)
    assert re.search(r"^CVACT val, toy town: .*\n.*\n.*\nSAFA_2, polar +1 (.*\n)*d +1 ", table, re.MULTILINE)
    pair = [with_network / "Result/CVACT" / name for name in ("SAFA_2_polar_1.json", "descriptors/d.json")]
    assert "no difference shown" in succeeds("recall_tables.py", "--compare", *pair, cwd=with_network)
    with np.load(with_network / "d.npz") as arrays:
        content = dict(arrays)
    few = {name: array[[7, 2, 5]] for name, array in content.items()}  # as ids say, in another order
    np.savez(with_network / "few.npz", **few)
    succeeds("evaluate_descriptors.py", "few.npz", dataset="CVACT", cwd=with_network)
    assert result_of(with_network, "few", "CVACT")["queries"] == 3
    first, second, _ = few["ids"]
    for ids, message in (["a", "b", "c"], "3 ids are not of CVACT val"), ([first], "1 ids"), ([first, first, second], "twice"):
        np.savez(with_network / "few.npz", **few | {"ids": np.array(ids)})
        assert message in complains("evaluate_descriptors.py", "few.npz", dataset="cvact", cwd=with_network)
    of_vigor = complains("evaluate_descriptors.py", "few.npz", dataset="cvact", labels="splits", cwd=with_network)
    assert "--labels: CVACT has none" in of_vigor
    scipy.io.savemat(with_network / "few.mat", {name: array[:3] for name, array in FIELD.items()})
    assert "3 queries; CVACT val has 10" in complains("evaluate_descriptors.py", "few.mat", dataset="cvact", cwd=with_network)


def test_all_forms_of_files_are_read(tmp_path):
    save(tmp_path), save(tmp_path, "half.npz", sat_descriptors=SAT.astype(np.float16), grd_descriptors=GRD.astype(np.float16))
    np.savez_compressed(tmp_path / "field.npz", **FIELD)
    scipy.io.savemat(tmp_path / "old.mat", FIELD | {"ids": np.array(names := [str(7**row) for row in range(50)])})
    np.save(tmp_path / "sat.npy", SAT), np.save(tmp_path / "grd.npy", GRD)
    for files in ["d.npz"], ["half.npz"], ["field.npz"], ["old.mat"], ["sat.npy", "grd.npy"]:
        succeeds("evaluate_descriptors.py", *files, dataset="X", name="+".join(["n", *files]), cwd=tmp_path)
        assert result_of(tmp_path, "+".join(["n", *files]))["recall"]["1"] == R1, files
    assert read_descriptors([str(tmp_path / "old.mat")])[2] == names  # which MATLAB pads with blanks to equal lengths


def test_descriptors_that_are_not_of_length_1_are_warned_of_or_normalised(tmp_path):
    save(tmp_path, sat_descriptors=SAT * RANDOM.uniform(0.2, 5, (50, 1)).astype(np.float32))
    output = succeeds("evaluate_descriptors.py", "d.npz", "--recall_at", 1, 3, 20, dataset="X", cwd=tmp_path)
    assert "warning: 50 of 50 references are not of length 1" in output and re.search(r"R@1 +R@3 +R@20\n", output)
    assert result_of(tmp_path)["recall"]["1"] < R1
    assert "warning" not in succeeds("evaluate_descriptors.py", "d.npz", dataset="X", normalise=True, cwd=tmp_path)
    assert result_of(tmp_path)["recall"]["1"] == R1
    for name, length in ("short", 1e-9), ("long", 1e38):
        save(tmp_path, f"{name}.npz", sat_descriptors=SAT * np.float32(length), grd_descriptors=GRD * np.float32(length))
        assert "warning" in succeeds("evaluate_descriptors.py", f"{name}.npz", dataset="X", cwd=tmp_path)
        assert result_of(tmp_path, name)["recall"]["1"] == R1, name


def test_a_result_of_other_files_or_another_split_is_not_replaced_unless_it_is_named(tmp_path):
    (tmp_path / "other").mkdir()
    save(tmp_path), save(tmp_path / "other", grd_descriptors=SAT)
    given = {"dataset": "X", "split": "a", "trained_on": "cvusa", "cwd": tmp_path}
    succeeds("evaluate_descriptors.py", "d.npz", **given)
    for file, flags, expected in (
        ("d.npz", {"split": "b"}, "split 'a'); move it away, or use another --name"),
        ("other/d.npz", {}, "checkpoint 'd.npz'); move it away, or use another --name"),
        ("d.npz", {"seed": 2**31}, "--seed"),
        ("d.npz", {"name": "d "}, "spaces but at the end"),
        ("d.npz", {"split": "Y a"}, "--split"),  # of X has the title of a of "X Y"
    ):
        assert expected in complains("evaluate_descriptors.py", file, **given | flags)
    succeeds("evaluate_descriptors.py", "other/d.npz", **given, name="d")
    assert result_of(tmp_path, "d_trained_on_CVUSA")["recall"]["1"] == 1


def test_many_queries_may_share_references_and_have_several(tmp_path):
    rows = np.arange(30) % 4  # the truth of query q is q % 4
    save(tmp_path, sat_descriptors=SAT[:4], grd_descriptors=SAT[(np.arange(30) + 1) % 4])
    assert "--truth" in complains("evaluate_descriptors.py", "d.npz", dataset="X", cwd=tmp_path)
    (tmp_path / "truth.txt").write_text("".join(f"{row}, {(row + 1) % 4} {(row + 1) % 4}\n" for row in rows), "utf-8-sig")
    succeeds("evaluate_descriptors.py", "d.npz", dataset="X", truth="truth.txt", trained_on="X", cwd=tmp_path)
    found = result_of(tmp_path)
    assert (found["recall"]["1"], found["recall_acceptable"]["1"]) == (0, 1)
    save(tmp_path, "pairs.npz", sat_descriptors=SAT[:4], grd_descriptors=SAT[[1, 2, 3, 0]])
    (tmp_path / "pairs.txt").write_text("0 1\n1 2\n2 3\n3 0\n")
    for direction in DIRECTIONS:
        flags = {"dataset": "X", "truth": "pairs.txt", "direction": direction, "cwd": tmp_path}
        assert re.search("- acceptable +100.00", succeeds("evaluate_descriptors.py", "pairs.npz", **flags))
    save(tmp_path, sat_descriptors=SAT[:4], grd_descriptors=SAT[rows], truth=rows)
    succeeds("evaluate_descriptors.py", "d.npz", dataset="X", cwd=tmp_path)
    assert result_of(tmp_path)["recall"]["1"] == 1
    for text, message in ("0\n", "1 lines for 30"), ("0\n" * 29 + "4\n", "line 30"), ("0\n-1\n", "line 2"), ("\0", "line 1"):
        (tmp_path / "bad.txt").write_text(text)
        assert message in complains("evaluate_descriptors.py", "d.npz", dataset="X", truth="bad.txt", cwd=tmp_path)
    assert "not of X" in complains("evaluate_descriptors.py", "d.npz", dataset="X", data_dir=".", cwd=tmp_path)
    for ending in "html", "json":
        (tmp_path / f"Result/X/descriptors/d.{ending}").write_text("mine")
        line = complains("evaluate_descriptors.py", "d.npz", dataset="X", report=True, cwd=tmp_path)
        assert f"{ending}: a file of another kind" in line


def damaged(write, at, value):
    """What a file's writer writes, with one byte changed."""
    write(content := io.BytesIO(), FIELD if write is scipy.io.savemat else SAT)
    content.seek(at), content.write(bytes([value]))
    return content.getvalue()


def bomb():
    """An archive whose directory says that it unpacks to 2 GB."""
    with zipfile.ZipFile(content := io.BytesIO(), "w") as file:
        file.writestr("a.npy", "")
        file.infolist()[0].file_size = 2**31
    return content.getvalue()


HOSTILE = {
    "not finite": {"grd_descriptors": np.where(np.arange(50)[:, None] == 3, np.nan, GRD)},
    "are not finite in float32": {"sat_descriptors": SAT * np.float64(1e300)},
    "type int64": {"sat_descriptors": np.int64(SAT)},
    "shape 16": {"sat_descriptors": SAT[0]},
    "shape 0x16": {"sat_descriptors": SAT[:0]},
    "8 and 16 values": {"sat_descriptors": SAT[:, :8]},
    "allow_pickle": {"sat_descriptors": np.array([{}], object)},
    "truth is not the row": {"truth": np.full(50, np.nan)},
    "in MATLAB char": {"ids": np.zeros(50)},
    "lacks": {"sat_descriptors": None},
    "version": b"\x80\x04\x95 a pickle".ljust(200),
    "not a zip": b"PK\x03\x04".ljust(100),
    "truncated": b"",
    "unpack to": bomb(),
    "crashes": damaged(scipy.io.savemat, 200, 0),  # type of the first array's numbers
    "version 7": b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM".ljust(600),
}


@pytest.mark.parametrize("message", HOSTILE)
def test_what_is_not_descriptors_is_one_line(tmp_path, message):
    content = HOSTILE[message]
    if isinstance(content, bytes):
        (tmp_path / "d.npz").write_bytes(content)
    elif message == "lacks":
        np.savez(tmp_path / "d.npz", a=SAT)
    else:
        save(tmp_path, **content)
    refuses(message, read_descriptors, [str(tmp_path / "d.npz")])


def test_a_damaged_header_of_a_npy_file_is_one_line(tmp_path):
    (tmp_path / "sat.npy").write_bytes(damaged(np.save, 22, ord(",")))  # Python's parser refuses it
    np.save(tmp_path / "grd.npy", GRD)
    for files in ["grd.npy"], ["grd.npy"] * 2:
        assert "two .npy files" in complains("evaluate_descriptors.py", *files, dataset="X", cwd=tmp_path)
    output = complains("evaluate_descriptors.py", "sat.npy", "grd.npy", dataset="X", cwd=tmp_path)
    assert "sat.npy, grd.npy: not readable as descriptors (invalid syntax" in output and not list(tmp_path.rglob("*.json"))
