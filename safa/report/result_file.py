"""The result file of a test: what was tested, recalls with their intervals, and the ranks, for every later statistic."""

import base64
import contextlib
import dataclasses
import pathlib
import re
import typing
import zlib

import msgspec
import numpy as np

from recall import recall_at
from safa.retrieval.task import DIRECTIONS
from safa.runtime.errors import UserError, first_line, shortened
from safa.runtime.files import files_below, put_aside, read_json, write_json
from safa.settings import NetworkConfig

PACKED = "base64 of zlib of little-endian int32"
RECALLS = ("1", "5", "10", "1%")
RECALL = re.compile(r"(pessimistic_)?recall(?!_curve).*")  # names of what holds RECALLS
AUTHORS, LAST = "authors", "last"  # which weights, in results, where they are not a run's best
RESULT = re.compile(rb'\{\s*"(version|dataset)": "')  # how these files begin
# Of a test, beside its network: what its file is called after, and what places it is of.
TEST = "dataset", "name", "run", "seed", "weights", "direction", "view", "split", "toy_town"

Share = typing.Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = typing.Annotated[int, msgspec.Meta(ge=1, le=10**8)]  # of queries, references or values
Number = typing.Annotated[float, msgspec.Meta(ge=0, le=1e15)]  # far beyond any network's cost, or rank, or metres
# Of datasets, runs and recalls: nothing that a terminal, LaTeX or a figure would obey.
Name = typing.Annotated[str, msgspec.Meta(pattern=r"\A[\w .+-]{0,200}\Z")]
K = typing.Literal[RECALLS]


@dataclasses.dataclass(frozen=True)
class NetworkCost:
    """What a network costs: see `retrieval.cost`; milliseconds a pair, or None where they were not measured."""

    parameters: typing.Annotated[int, msgspec.Meta(ge=0, le=10**15)]
    gmac: Number
    descriptor: Count
    milliseconds: Number | None


@dataclasses.dataclass(frozen=True)
class Metres:
    """How far the first matches are from the truth: the median, and shares within some metres."""

    median: Number
    within: dict[Name, Share]


@dataclasses.dataclass
class StoredResult:
    """The content of a result file, as far as tables and charts use it; see `retrieval.evaluation.evaluate`."""

    dataset: Name
    split: Name
    trained_on: Name | None
    network: NetworkConfig | None  # None where `name` says whose descriptors, computed elsewhere, were searched; so is `cost`
    run: Name | None
    seed: typing.Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
    direction: typing.Literal[DIRECTIONS]
    view: Name
    checkpoint: str
    queries: Count
    references: Count
    recalls: dict[Name, dict[K, Share]]  # "recall", "pessimistic_recall", "recall_within_5m", ...
    tied_queries: typing.Annotated[int, msgspec.Meta(ge=0, le=10**8)]
    rank: dict[typing.Literal["median", "90%"], Number]
    query_ids: Name
    ranks: dict[Name, str]  # packed; then "exact", ...: (queries,) int64 ranks from 0, and "first_match": rows of references
    cost: NetworkCost | None
    # What only some results have; `rows.Kind` and `rows.SHARES` say which of it tables show.
    name: Name | None = None
    toy_town: bool = False  # the places were rendered
    weights: Name | None = None  # AUTHORS, LAST or the file's name where they are not the best of a run of ours
    checkpoint_digest: str | None = None  # of `checkpoint_files.checkpoint_digest`
    precision: str | None = None  # that it was tested in
    metres: Metres | None = None
    heading_right: Share | None = None

    def __post_init__(self):
        if "recall" not in self.recalls or len(self.rank) != 2 or self.network is self.name is None:
            raise ValueError("without recall, rank, or network")
        for values in self.recalls.values():
            if len(values) != len(RECALLS):
                raise ValueError(f"recalls without one of {', '.join(RECALLS)}")
        self.ranks = {name: unpack(text, self.queries) for name, text in self.ranks.items() if name != "packed"}
        if "exact" not in self.ranks:
            raise ValueError("without ranks")
        for name, rows in self.ranks.items():
            if rows.min() < 0 or rows.max() >= self.references:
                raise ValueError(f"ranks {name} beyond the references")

    def recall(self, name, k):
        """One of `recalls` at a K, a share: kept, or counted in the ranks. None if the result has neither."""
        if (kept := self.recalls[name].get(k)) is not None:
            return kept
        ranks = self.ranks.get("exact" if name == "recall" else name.removeprefix("recall_"))
        return None if ranks is None else recall_at(ranks, int(k))


def check_earlier(path, tested, remedy="--result_dir", further=()):
    """Refuse a path where the result of another test lies: run fov_90 and --fov 90 have one name. A result of the same test is
    replaced, and a damaged one.

    Args:
        tested: dict of what is tested.
        remedy: the flag that gives the result another path.
        further: names in `tested`, beside TEST, in which tests differ.
    """
    try:
        earlier = dataclasses.asdict(read_result(path, ""))
    except UserError:
        return
    before, now = ({name: of.get(name) for name in (*TEST, *further)} | (of["network"] or {}) for of in (earlier, tested))
    if other := [f"{name} {value!r}" for name, value in before.items() if value != now.get(name)]:
        what = f"holds the result of another test ({', '.join(other)})"
        raise UserError(f"{path}: {what}; move it away, or use another {remedy}")


def write_result(path, result):
    """Write a result: what was tested, and what `retrieval.evaluation.evaluate` returns; the ranks are packed.

    That of another run (of another --model_dir, say), in another precision, or of other images (with --skip_missing) is put
    aside: returns a line that says so, or None.
    """
    note, earlier = None, {}
    with contextlib.suppress(OSError, UserError):  # there is none, or a damaged one
        earlier = read_json(path, dict, "")
    kept = "run_began", "precision", "query_ids", "references", "corrupted_with"
    if any(earlier.get(name) not in (None, result.get(name)) for name in kept):
        note = f"{path}: held the result of another run or precision, or of other images; kept as {put_aside(path)}"
    ranks = {name: pack(rank) for name, rank in result["ranks"].items()} | {"packed": PACKED}
    write_json(path, result | {"ranks": ranks})
    return note


def pack(ranks):
    """(Q,) integers below 2**31 as text."""
    return base64.b64encode(zlib.compress(np.asarray(ranks, "<i4").tobytes(), 9)).decode()


def unpack(text, count):
    """The (count,) int64 of a packed text; ValueError if it is not one of so many numbers."""
    decompressor = zlib.decompressobj()
    try:
        content = decompressor.decompress(base64.b64decode(text, validate=True), 4 * count + 1)
    except (zlib.error, TypeError) as error:
        raise ValueError(f"ranks that are not packed ({error})") from None
    if len(content) != 4 * count:
        raise ValueError(f"ranks that are not of {count:,} queries")
    return np.frombuffer(content, "<i4").astype(np.int64)


def read_result(path, remedy):
    """The StoredResult of a file; UserError if it holds none, with a `remedy`: what the user can do, or what is done."""
    try:
        content = read_json(path, dict, remedy)
        content["recalls"] = {name: recall for name, recall in content.items() if RECALL.fullmatch(name)}
        if "weights" not in content and str(content.get("checkpoint")).endswith("Trained/model.ckpt"):
            content["weights"] = AUTHORS  # written before results said so
        return msgspec.convert(content, StoredResult)
    except OSError as error:
        raise UserError(f"{shortened(path)}: {error.strerror}; {remedy}") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise UserError(f"{shortened(path)}: not a result of a test ({first_line(error)}); {remedy}") from None


def find_results(folders):
    """All files below folders (or links in them) that end in .json, each once, but manifests of descriptors; sorted paths.

    Raises UserError if a folder does not exist.
    """
    found = {}
    for folder in map(pathlib.Path, folders):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; name the folder of the results with --result_dir")
        for path in files_below(folder, "[!.]*.json"):
            if not path.is_dir() and path.parent.suffix != ".descriptors":
                found.setdefault(path.resolve(), str(path))
    return list(found.values())
