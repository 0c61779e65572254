"""What can be wrong with a dataset that loads: each check is a function from pairs or files to findings."""

import collections
import dataclasses
import itertools
import os

import numpy as np

from safa.datasets.dataset import POLAR
from safa.datasets.image_files import by_pixels, same_ratio
from safa.datasets.positions import HIT_METRES, distances_to_nearest
from safa.datasets.preparation import OUTDATED, older_than_sources

TITLES = {"tile": "aerial tiles", "panorama": "panoramas", "polar_map": "polar maps", "prepared_panorama": "prepared panoramas"}
PREPARED = {"tile": "polar_map", "panorama": "prepared_panorama"}  # kinds of sources, and of what is made of them


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something worth saying about a dataset."""

    check: str  # its name: "missing", for instance
    split: str
    count: int  # of files, pairs or places
    text: str  # what it is, and what follows
    problem: bool = True  # else a note
    examples: tuple[str, ...] = ()  # files or ids


def found(check, split, examples, text, problem=True):
    """A list with the Finding of these examples; empty without examples."""
    return [Finding(check, split, len(examples), text, problem, tuple(examples))] if len(examples) else []


def files_of(pairs):
    """A split's files, {"tile", "panorama", or another of TITLES: paths}: N of references, Q of queries."""
    files = {"tile": pairs.tile_paths, "panorama": pairs.panorama_paths or pairs.grd_paths}
    if pairs.reference == POLAR:
        files["polar_map"] = pairs.sat_paths
    if pairs.panorama_paths:
        files["prepared_panorama"] = pairs.grd_paths
    return files


def check_lists(splits):
    """Counts, duplicates, and what training and test splits share, as far as the lists tell: list of Finding.

    `splits`: {name: datasets.dataset.Pairs}.
    """
    findings = []
    for name, pairs in splits.items():
        published = pairs.dataset.published_counts.get(name, len(pairs))
        if len(pairs) != published:
            text = f"pairs, where the published split has {published:,}"
            findings.append(Finding("count", name, len(pairs), text, problem=False))
        twice = [each for each, count in collections.Counter(pairs.ids).items() if count > 1]
        text = "ids are listed more than once: in training such a pair is its own negative, in testing it fills two ranks"
        findings += found("duplicate ids", name, twice, text)
        for kind, rows in _ids_of_files(pairs).items():
            repeated = [path for path, ids in rows.items() if len(ids) > 1]
            text = f"{TITLES[kind]} stand in more than one row: at most one of these rows can be right"
            findings += found("duplicate files", name, repeated, text)
        if pairs.utm is not None and pairs.dataset.tile_metres is not None:
            off = np.abs(pairs.query_utm - pairs.utm[pairs.truth]).max(axis=1) > pairs.dataset.tile_metres / 2
            outside = [pairs.ids[row] for row in np.flatnonzero(off)]
            findings += found("outside", name, outside, "panoramas lie outside their tiles: their order may be mixed up")
    return findings + leakage(splits)


def _ids_of_files(pairs):
    """{"panorama" or "tile": {path: ids of the queries whose row names it}}; without tiles where panoramas share them."""
    of_kind = {"panorama": pairs.grd_paths} | ({"tile": pairs.tile_paths} if pairs.one_to_one else {})
    for kind, paths in of_kind.items():
        of_kind[kind] = collections.defaultdict(set)
        for path, name in zip(map(os.path.normpath, paths), pairs.ids, strict=True):
            of_kind[kind][path].add(name)
    return of_kind


def leakage(splits):
    """Places that the training and the test split share, by id, file and distance; arguments as of `check_lists`."""
    if not {"train", "val"} <= set(splits):
        return []
    train, val = splits["train"], splits["val"]
    shared = sorted(set(train.ids) & set(val.ids))
    text = "ids are in the training split too: their recall is of places that were trained on"
    findings = found("leakage by id", "val", shared, text)
    trained_files = _ids_of_files(train)
    for kind, rows in _ids_of_files(val).items():
        trained = trained_files.get(kind, {})
        both = [path for path, ids in rows.items() if ids - trained.get(path, ids)]  # the same ids are said above
        text = f"{TITLES[kind]} are in the training split too, under other ids: their recall is of images that were trained on"
        findings += found("leakage by file", "val", both, text)
    if train.utm is not None:
        distances = distances_to_nearest(val.query_utm, train.query_utm)
        near = [val.ids[row] for row in np.flatnonzero(distances < HIT_METRES)]
        text = f"places are less than {HIT_METRES:g} m from a training place"
        findings += found("leakage by distance", "val", near, text, problem=False)
    return findings


def outdated(pairs):
    """Prepared files of Pairs that are older than what they are made from."""
    files = files_of(pairs)
    made = [zip(files[source], files[prepared], strict=True) for source, prepared in PREPARED.items() if prepared in files]
    return found("outdated", pairs.split, older_than_sources(itertools.chain(*made)), OUTDATED)


def check_existence(split, files):
    """Files that are missing; `files`: as of `files_of`. Where all polar maps are, none may be wanted."""
    findings = []
    for kind, paths in files.items():
        missing = [path for path in dict.fromkeys(paths) if not os.path.exists(path)]
        unprepared = kind == "polar_map" and len(missing) == len(set(paths))
        remedy = " yet: run data_preparation.py, or train and test with --polar 0" if unprepared else ""
        findings += found("missing", split, missing, f"{TITLES[kind]} do not exist{remedy}", not unprepared)
    return findings


def copies(splits, checked):
    """Aerial tiles and panoramas whose bytes are those of another file, within a split and across both.

    `splits`: {name of the split: files as of `files_of`}; `checked`: {path: CheckedFile}.
    """
    findings = []
    for kind in PREPARED:
        title, of_split = TITLES[kind], {}
        for split, files in splits.items():
            same_bytes = of_split[split] = collections.defaultdict(set)
            for path in files[kind]:
                same_bytes[checked[path].digest].add(path)
            same_bytes.pop(None, None)  # of files that cannot be read
            groups = [" = ".join(sorted(same)) for same in same_bytes.values() if len(same) > 1]
            text = f"{title} lie there more than once, under several names: at most one of these pairs can be right"
            findings += found("copies", split, groups, text)
        trained = of_split.get("train", {})
        both = [(same, trained.get(digest, same)) for digest, same in of_split.get("val", {}).items()]
        shared = [" = ".join(sorted(same | others)) for same, others in both if same != others]
        text = f"{title} are copies of images of the training split: their recall is of images that were trained on"
        findings += found("leakage by content", "val", shared, text)
    return findings


def check_images(pairs, files, checked):
    """What the CheckedFiles of a split, by their paths, say of its images: list of Finding; `files`: as of `files_of`."""
    findings, split, dataset = [], pairs.split, pairs.dataset
    of_kind = {kind: [checked[path] for path in dict.fromkeys(files.get(kind, ()))] for kind in TITLES}
    sizes = dataset.tile_size, dataset.panorama_size, dataset.polar_size, dataset.query_size
    for (kind, title), published in zip(TITLES.items(), sizes, strict=True):
        sized = [file for file in of_kind[kind] if file.size is not None]
        usual = max(counts, key=counts.get) if (counts := collections.Counter(file.size for file in sized)) else None
        odd = [f"{file.path} ({by_pixels(file.size)})" for file in sized if file.size != usual]
        distorted = [file.path for file in sized if not same_ratio(file.size, published)]
        broken = [file.error for file in of_kind[kind] if file.error is not None]
        findings += found("unreadable", split, broken, f"{title} cannot be decoded, or in part only")
        ratio = f"{title} have another aspect ratio than the dataset's {by_pixels(published)}"
        findings += found("ratio", split, distorted, ratio)
        if odd:
            findings += found("size", split, odd, f"{title} differ in size from the majority ({by_pixels(usual)})")
    for kind, check, text in (
        ("polar_map", "stretch", "polar maps are made without the min-max stretch, unlike the paper's"),
        ("polar_map", "content", "polar maps are not what data_preparation.py makes of their tiles"),
        ("prepared_panorama", "content", "prepared panoramas are not what data_preparation.py makes of their panoramas"),
    ):
        findings += found(check, split, [file.path for file in of_kind[kind] if file.wrong == check], text)
    return findings
