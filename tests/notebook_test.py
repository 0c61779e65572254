"""The notebook of docs/ runs from top to bottom."""

import json
import os

from conftest import ROOT, command, succeeds

SMALLEST = {"height": 32, "width": 128, "width_multiplier": 0.05}


def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    sizes = {"PLACES": 24, "TEST_PLACES": 10, "EPOCHS": 1, "NETWORK": " ".join(command(**SMALLEST)), "FOLDER": tmp_path}
    for name, value in sizes.items():
        monkeypatch.setenv(f"DEMO_{name}", str(value))
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.chdir(os.path.join(ROOT, "docs"))
    with open("demo.ipynb", encoding="utf-8") as file:
        cells = [cell for cell in json.load(file)["cells"] if cell["cell_type"] == "code"]
    names = {}
    for cell in cells:
        exec("".join(cell["source"]), names)
        # Scripts run in forks of a process that has imported TensorFlow, instead of in processes of their own.
        names["python"] = lambda *words: print(succeeds(*words[words[0] == "-m" :], cwd=ROOT))
    recall = json.loads((tmp_path / "Result/CVUSA/SAFA_8_polar_1.json").read_text())["recall"]["1"]
    assert f"R@1: {100 * recall:.1f} %" in capsys.readouterr().out, "load_network gives what the test script measured"
    assert {axes.get_title() for axes in names["figure"].axes} == set(names["pictures"])
    assert not any(cell["outputs"] for cell in cells)
