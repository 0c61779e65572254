"""Imports point one way, from the scripts down to the ground."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parent.parent
METHOD = {"VGG", "spatial_net", "triplet_loss", "recall"}
# Each place may import from those above it in this list, and from its own.
PLACES = [
    "safa.runtime",
    "safa.settings",
    "polar_transform",
    "safa.datasets",
    "input_data",
    *sorted(METHOD),
    "safa.retrieval",
    "safa.report",
    "safa.training",
    "safa.localization",
    "toy_town",
    "safa.launch",
]
SCRIPTS = {path.stem for path in ROOT.glob("*.py")} - set(PLACES)


def place_of(module):
    parts = module.split(".")
    return ".".join(parts[: 2 if parts[0] == "safa" else 1])


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield place_of(f"safa.{node.names[0].name}" if node.module == "safa" else node.module)
        elif isinstance(node, ast.Import):
            yield from (place_of(alias.name) for alias in node.names)


def test_a_place_imports_from_those_below_it_only():
    paths = [*ROOT.glob("*.py"), *ROOT.glob("toy_town/*.py"), *ROOT.glob("safa/*/*.py"), ROOT / "safa/settings.py"]
    places = {path: place_of(".".join(path.relative_to(ROOT).with_suffix("").parts)) for path in paths}
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
    names = {path.stem for path in [*ROOT.glob("*"), *ROOT.glob("*/*.py"), *ROOT.glob("safa/*/*.py")]}
    assert not names & {"utils", "helpers", "common", "misc", "data", "model"}
