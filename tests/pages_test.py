"""The notebook of docs/ runs."""

import json
import os

from conftest import NETWORK, ROOT, command, succeeds


def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    sizes = {"PLACES": 24, "TEST_PLACES": 10, "EPOCHS": 1, "NETWORK": " ".join(command(**NETWORK)), "FOLDER": tmp_path}
    for name, value in sizes.items():
        monkeypatch.setenv(f"DEMO_{name}", str(value))
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.chdir(os.path.join(ROOT, "docs"))
    with open("demo.ipynb", encoding="utf-8") as file:
        cells = [cell for cell in json.load(file)["cells"] if cell["cell_type"] == "code"]

    def python(*words):
        """Run a script in a fork of a process that has imported TensorFlow, instead of in one of its own, with one worker."""
        workers = {"workers": 1 if words[0] in ("-m", "data_preparation.py") else None}
        print(succeeds(*words[words[0] == "-m" :], **workers, cwd=ROOT))

    names = {}
    for cell in cells:
        exec("".join(cell["source"]), names)
        names["python"] = python
    recall = json.loads((tmp_path / "Result/CVUSA/SAFA_8_polar_1.json").read_text())["recall"]["1"]
    assert f"R@1: {100 * recall:.1f} %" in capsys.readouterr().out, "load_network gives what the test script measured"
    assert {axes.get_title() for axes in names["figure"].axes} == set(names["pictures"])
    assert not any(cell["outputs"] for cell in cells)
