"""What can be wrong with a dataset that loads: each check is a function from pairs or files to findings."""

import collections
import dataclasses
import os

import numpy as np

from safa.datasets.image_files import by_pixels, same_ratio
from safa.datasets.positions import HIT_METRES, distances_to_nearest
from safa.datasets.preparation import PREPARED_SIZE

# The fields of PairFiles.
TITLES = {"tile": "aerial tiles", "panorama": "panoramas", "polar_map": "polar maps", "prepared_panorama": "prepared panoramas"}


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something worth saying about a dataset.

    Attributes:
        check: its name: "missing", for instance.
        split: its name.
        count: how many files, pairs or places.
        text: what it is, and what follows.
        problem: whether it is one; else a note.
        examples: the files or ids.
    """

    check: str
    split: str
    count: int
    text: str
    problem: bool = True
    examples: tuple[str, ...] = ()


def found(check, split, examples, text, problem=True):
    """A list with the Finding of these examples, or an empty one where there are none."""
    return [Finding(check, split, len(examples), text, problem, tuple(examples))] if len(examples) else []


def check_lists(dataset, splits):
    """Counts, duplicates, and what training and test splits share, as far as the lists tell.

    Args:
        dataset: datasets.dataset.Dataset.
        splits: {name: datasets.dataset.Pairs}.

    Returns:
        List of Finding.
    """
    findings = []
    for name, pairs in splits.items():
        published = dataset.published_counts.get(name)
        if published is not None and len(pairs) != published:
            text = f"pairs, where the published split has {published:,}"
            findings.append(Finding("count", name, len(pairs), text, problem=False))
        twice = [each for each, count in collections.Counter(pairs.ids).items() if count > 1]
        findings += found(
            "duplicate ids",
            name,
            twice,
            "ids are listed more than once: in training such a pair is its own negative, in testing it fills two ranks",
        )
        for kind, rows in _files_of_rows(pairs).items():
            if pairs.one_to_one or kind == "panorama":  # else tiles may be shared
                repeated = [path for path, ids in rows.items() if len(ids) > 1]
                text = f"{TITLES[kind]} stand in more than one row: at most one of these rows can be right"
                findings += found("duplicate files", name, repeated, text)
    return findings + leakage(splits)


def _files_of_rows(pairs):
    """{"tile" or "panorama": {path: ids of the queries whose row names it}}."""
    of_kind = {}
    for kind, paths in {"tile": [pairs.tile_paths[row] for row in pairs.truth], "panorama": pairs.grd_paths}.items():
        rows = of_kind[kind] = collections.defaultdict(set)
        for path, name in zip(map(os.path.normpath, paths), pairs.ids, strict=True):
            rows[path].add(name)
    return of_kind


def leakage(splits):
    """Places that the training and the test split share, by id, file and distance; arguments as of `check_lists`."""
    if not {"train", "val"} <= set(splits):
        return []
    train, val = splits["train"], splits["val"]
    shared = sorted(set(train.ids) & set(val.ids))
    text = "ids are in the training split too: their recall is of places that were trained on"
    findings = found("leakage by id", "val", shared, text)
    trained_files = _files_of_rows(train)
    for kind, rows in _files_of_rows(val).items():
        trained = trained_files[kind]
        both = [path for path, ids in rows.items() if ids - trained.get(path, ids)]  # the same ids are said above
        text = f"{TITLES[kind]} are in the training split too, under other ids: their recall is of images that were trained on"
        findings += found("leakage by file", "val", both, text)
    if train.utm is not None:
        near = np.flatnonzero(distances_to_nearest(val.utm[val.truth], train.utm) < HIT_METRES)
        text = f"places are less than {HIT_METRES:g} m from a training place"
        findings += found("leakage by distance", "val", [val.ids[row] for row in near], text, problem=False)
    return findings


def outdated(split, made):
    """Prepared files that are older than what they are made from.

    Args:
        split: name of the split.
        made: (source, prepared file) paths; those that do not exist are another check's.
    """

    def is_older(prepared, source):
        try:
            return os.stat(prepared).st_mtime_ns < os.stat(source).st_mtime_ns
        except OSError:
            return False

    old = [prepared for source, prepared in made if is_older(prepared, source)]
    text = "prepared files are older than what they are made from: run data_preparation.py --overwrite"
    return found("outdated", split, old, text)


def check_quickly(split, files):
    """What a split's files tell that are not opened; `files`: list of PairFiles."""
    findings = outdated(split, [(each.tile, each.polar_map) for each in files])
    findings += outdated(split, [(each.panorama, each.prepared_panorama) for each in files if each.prepared_panorama])
    for kind in TITLES:
        paths = [path for path in (getattr(each, kind) for each in files) if path is not None]
        findings += _missing(kind, split, [path for path in paths if not os.path.exists(path)])
    return findings


def _missing(kind, split, paths):
    return found("missing", split, paths, f"{TITLES[kind]} do not exist")


def copies(results):
    """Aerial tiles and panoramas whose bytes are those of another file, within a split and across both.

    Args:
        results: {name of the split: list of CheckedPair}.
    """
    findings = []
    for kind in ("tile", "panorama"):
        title = TITLES[kind]
        paths = {split: _paths_of_content(pairs, kind) for split, pairs in results.items()}
        for split, of_digest in paths.items():
            groups = [" = ".join(sorted(same)) for same in of_digest.values() if len(same) > 1]
            text = f"{title} lie there more than once, under several names: at most one of these pairs can be right"
            findings += found("copies", split, groups, text)
        if {"train", "val"} <= set(paths):
            shared = [
                " = ".join(sorted(same | paths["train"][digest]))
                for digest, same in paths["val"].items()
                if paths["train"].get(digest, same) != same
            ]
            text = f"{title} are copies of images of the training split: their recall is of images that were trained on"
            findings += found("leakage by content", "val", shared, text)
    return findings


def _paths_of_content(pairs, kind):
    """{digest: paths} of one kind of files of CheckedPairs."""
    paths = collections.defaultdict(set)
    for file in (getattr(pair, kind) for pair in pairs):
        if file.digest is not None:
            paths[file.digest].add(file.path)
    return paths


def check_images(pairs, results):
    """What the results of `check_pair` say of a split's files.

    Args:
        pairs: datasets.dataset.Pairs.
        results: list of CheckedPair.
    """
    findings, split, dataset = [], pairs.split, pairs.dataset
    sizes = dataset.tile_size, dataset.panorama_size, PREPARED_SIZE, PREPARED_SIZE
    for (kind, title), published in zip(TITLES.items(), sizes, strict=True):
        files = [file for file in (getattr(result, kind) for result in results) if file is not None]
        sized = [file for file in files if file.size is not None]
        counts = collections.Counter(file.size for file in sized)
        usual = max(counts, key=counts.get, default=None)
        odd = [f"{file.path} ({by_pixels(file.size)})" for file in sized if file.size != usual]
        distorted = [file.path for file in sized if not same_ratio(file.size, published)]
        broken = [file.error for file in files if file.error is not None]
        findings += _missing(kind, split, [file.path for file in files if file.missing])
        findings += found("unreadable", split, broken, f"{title} cannot be decoded, or in part only")
        ratio = f"{title} have another aspect ratio than the dataset's {by_pixels(published)}"
        findings += found("ratio", split, distorted, ratio)
        if odd:
            findings += found("size", split, odd, f"{title} differ in size from the majority ({by_pixels(usual)})")
        for mode in sorted({file.mode for file in sized} - {"RGB"}):
            converted = [file.path for file in sized if file.mode == mode]
            text = f"{title} have pixels of mode {mode} instead of RGB; they are converted when they are read"
            findings += found("mode", split, converted, text, problem=False)
    for origin, check, text in (
        ("unstretched", "stretch", "polar maps are made without the min-max stretch, unlike the paper's"),
        ("other", "content", "polar maps are not what data_preparation.py makes of their tiles"),
    ):
        findings += found(check, split, [each.polar_map.path for each in results if each.origin == origin], text)
    wrong = [each.prepared_panorama.path for each in results if each.panorama_agrees is False]
    text = "prepared panoramas are not what data_preparation.py makes of their panoramas"
    findings += found("content", split, wrong, text)
    # Times say nothing of a file that was just found to be what its source gives.
    unproved = [(each.tile, each.polar_map) for each in results if each.origin in (None, "other")]
    unproved += [(each.panorama, each.prepared_panorama) for each in results if each.panorama_agrees is False]
    return findings + outdated(split, [(source.path, made.path) for source, made in unproved])
