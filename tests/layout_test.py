"""Imports point one way, from the scripts down to the ground."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parent.parent
METHOD = {"VGG", "spatial_net", "triplet_loss", "recall"}
# Each place may import from those above it in this list, and from its own.
PLACES = [
    "runtime",
    "settings",
    "polar_transform",
    "datasets",
    "input_data",
    *sorted(METHOD),
    "retrieval",
    "report",
    "training",
    "localization",
    "toy_town",
    "launch",
]
SCRIPTS = {path.stem for path in ROOT.glob("*.py")} - set(PLACES)


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)


def test_a_place_imports_from_those_below_it_only():
    places = {path: path.stem for path in ROOT.glob("*.py")}
    places |= {path: path.parent.name for path in ROOT.glob("*/*.py") if path.parent.name in PLACES}
    assert len(places) > 40 and set(PLACES) <= set(places.values())
    upwards = []
    for path, place in places.items():
        below = set(PLACES if place in SCRIPTS else PLACES[: PLACES.index(place) + 1]) | (METHOD if place in METHOD else set())
        upwards += [
            f"{path.relative_to(ROOT)} imports {name}"
            for name in imports(path)
            if name in PLACES + sorted(SCRIPTS) and name not in below
        ]
    assert not upwards, upwards


def test_no_room_is_called_after_nothing():
    names = {path.stem for path in [*ROOT.glob("*"), *ROOT.glob("*/*.py")]}
    assert not names & {"utils", "helpers", "common", "misc", "data", "model"}
