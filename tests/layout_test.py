"""Imports point one way, down to the modules that one reads beside the paper; and how much there is to read."""

import ast
import graphlib
import importlib
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent
# What one reads beside the paper imports nothing of the project but each other.
METHOD = {"VGG", "spatial_net", "polar_transform", "triplet_loss", "recall", "input_data"}
# Each place may import from those before it in this list, and from its own.
PLACES = """method safa.runtime safa.parts safa.settings safa.datasets safa.retrieval safa.report safa.training safa.loading
    safa.launch safa.localization toy_town scripts""".split()
PAGES = [path for folder in (".", "docs", "Data", "Model") for path in (ROOT / folder).glob("*.md")]
# Without localisation in other people's world, VIGOR, corruptions and descriptors made elsewhere it was 11,400 and 5,600.
LINES = {"code": 14_140, "tests": 7_310, "README.md": 200}
# What a reader must open, whole files, to follow a flag of training to the gradient, and one of a test to the recall.
TO_GRADIENT = """train_cvusa.py safa/launch/training.py safa/settings.py safa/parts.py safa/training/train.py
    safa/training/step.py input_data.py safa/datasets/pair_images.py spatial_net.py VGG.py triplet_loss.py
    safa/runtime/distribution.py""".split()
TO_RECALL = """test_cvusa.py safa/launch/testing.py safa/launch/given_data.py safa/settings.py safa/loading.py safa/parts.py
    safa/training/weights.py safa/training/checkpoint_files.py safa/training/run_folder.py safa/datasets/cvusa.py
    safa/datasets/dataset.py safa/datasets/pair_images.py safa/datasets/image_files.py input_data.py spatial_net.py VGG.py
    safa/retrieval/descriptors.py safa/retrieval/resumable_rows.py safa/retrieval/task.py safa/retrieval/search.py
    safa/retrieval/evaluation.py recall.py""".split()


def modules():
    """{module: path} of the project but its tests, benchmarks and pages."""
    paths = [*ROOT.glob("*.py"), *ROOT.glob("toy_town/*.py"), *ROOT.glob("safa/**/*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}


def place_of(module):
    parts = module.split(".")
    if parts[0] == "safa":
        return ".".join(parts[:2])
    return "method" if parts[0] in METHOD else "toy_town" if parts[0] == "toy_town" else "scripts"


def imports(path, known):
    """The project's modules that a file imports, anywhere but for type checkers alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)} & known
        elif isinstance(node, ast.Import):
            yield from {alias.name for alias in node.names} & known


def test_a_place_imports_from_those_below_it_only_and_modules_import_each_other_in_no_circle():
    known = modules()
    graph = {module: set(imports(path, set(known))) - {module} for module, path in known.items() if module != "safa.__init__"}
    for module, imported in graph.items():
        place = place_of(module)
        assert place in PLACES or module == "toy_town.__main__", module
        wrong = [name for name in imported - {"safa"} if PLACES.index(place_of(name)) > PLACES.index(place)]
        assert not wrong, (module, wrong)
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) > 80  # raises CycleError
    names = {part for module in known for part in module.split(".")}
    assert not names & {"utils", "helpers", "common", "misc", "data", "model"}  # no room is called after nothing


HELP = """
import contextlib, io, json, os, runpy, sys
root, *commands = sys.argv[1:]
sys.path.insert(0, root)
text = io.StringIO()
for command in commands:
    script, *words = command.split()
    sys.argv = [script, *words, "--help"]
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        runpy.run_path(os.path.join(root, script), run_name="__main__")
paths = [module.__file__ for module in sys.modules.values() if getattr(module, "__file__", None)]
own = [path for path in paths if path.startswith(root) and os.sep + "." not in path[len(root):]]
print(json.dumps([len(own) + 1, [name for name in ("tensorflow", "keras") if name in sys.modules], text.getvalue()]))
"""


def after_help(*commands):
    """How many of the project's files and which heavy libraries are imported when flags of scripts are parsed; the help."""
    output = subprocess.check_output([sys.executable, "-c", HELP, str(ROOT), *commands], text=True, cwd=ROOT)
    return json.loads(output)


def test_scripts_import_no_tensorflow_before_their_flags_are_parsed_and_pages_name_flags_and_files_that_exist():
    scripts = {path.name for path in ROOT.glob("*.py")} - {f"{name}.py" for name in METHOD} - {"localize.py"}
    assert len(scripts) == 15 and after_help("train_cvusa.py")[0] <= 25
    steps = [f"localize.py {step}" for step in ("build", "query", "calibrate")]
    _, heavy, text = after_help(*sorted(scripts), *steps, "toy_town/__main__.py")
    known = set(re.findall(r"--\w+", text))
    assert not heavy
    for page in PAGES:
        lines = page.read_text(encoding="utf-8").splitlines()
        ours = [line for line in lines if not re.search("SBATCH|benchmarks|tensorboard|cache disk", line)]
        unknown = set(re.findall(r"--\w+", "".join(ours))) - known
        links = re.findall(r"\]\(([^)#]+)[^)]*\)", "\n".join(lines))
        gone = [link for link in links if not link.startswith("https://") and not (page.parent / link).exists()]
        assert not unknown and not gone, (page.name, unknown, gone)
    assert all((ROOT / at).exists() for at in re.findall(r"tests/\w+\.py", (ROOT / ".github/workflows/test.yml").read_text()))


def test_benchmarks_and_pages_import_what_there_is():
    paths = [path for folder in ("benchmarks", "docs") for path in ROOT.glob(f"{folder}/*.py") if path.stem != "__init__"]
    assert len(paths) > 8 and all(importlib.import_module(f"{path.parent.name}.{path.stem}").__doc__ for path in paths)


def lines(paths):
    return sum(len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in paths)


def test_there_is_not_more_to_read_than_this():
    assert len(TO_GRADIENT) <= 12 and lines(TO_GRADIENT) <= 1_600
    assert len(TO_RECALL) <= 22 and lines(TO_RECALL) <= 2_800
    code = [path for module, path in modules().items() if not module.startswith("toy_town")]
    counts = {"code": lines(code), "tests": lines(ROOT.glob("tests/**/*.py")), "README.md": lines(["README.md"])}
    assert all(counts[name] <= most for name, most in LINES.items()), counts
