"""What can be wrong with a dataset that loads: each check is a function from pairs or files to findings."""

import collections
import dataclasses
import hashlib
import itertools
import os
import struct

import numpy as np
import simplejpeg

from safa.datasets.cvact import HIT_METRES
from safa.datasets.findings import Finding, found
from safa.datasets.image_files import JPEG_START, PNG_START, ImageError, by_pixels, decode_image, read_bytes, same_ratio
from safa.datasets.orientation import ground_colours
from safa.datasets.positions import distances_to_nearest
from safa.datasets.preparation import polar_map

TILES, PANORAMAS = "aerial images", "panoramas"
COLOUR_TYPES = {0: "grey-scale", 3: "palette", 4: "grey-scale with alpha", 6: "alpha"}  # of PNG


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
        for title, rows in _files_of_rows(pairs).items():
            if pairs.one_to_one or title == PANORAMAS:  # else tiles may be shared
                repeated = [path for path, ids in rows.items() if len(ids) > 1]
                text = f"{title} stand in more than one row: at most one of these rows can be right"
                findings += found("duplicate files", name, repeated, text)
    return findings + leakage(splits)


def _files_of_rows(pairs):
    """{title: {path: ids of the queries whose row names it}} of a split's two kinds of images."""
    of_title = {}
    for title, paths in ((TILES, [pairs.sat_paths[row] for row in pairs.truth]), (PANORAMAS, pairs.grd_paths)):
        rows = of_title[title] = collections.defaultdict(set)
        for path, name in zip(map(os.path.normpath, paths), pairs.ids, strict=True):
            rows[path].add(name)
    return of_title


def leakage(splits):
    """Places that the training and the test split share, by id, file and distance; arguments as of `check_lists`."""
    if not {"train", "val"} <= set(splits):
        return []
    train, val = splits["train"], splits["val"]
    shared = sorted(set(train.ids) & set(val.ids))
    text = "ids are in the training split too: their recall is of places that were trained on"
    findings = found("leakage by id", "val", shared, text)
    for title, rows in _files_of_rows(val).items():
        trained = _files_of_rows(train)[title]
        both = [path for path, ids in rows.items() if ids - trained.get(path, ids)]  # the same ids are said above
        text = f"{title} are in the training split too, under other ids: their recall is of images that were trained on"
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

    def changed(path):
        try:
            return os.stat(path).st_mtime_ns
        except OSError:
            return None

    times = [(changed(source), changed(prepared)) for source, prepared in made]
    old = [prepared for (_, prepared), (before, after) in zip(made, times, strict=True) if _is_older(after, before)]
    text = "prepared files are older than what they are made from: run data_preparation.py --overwrite"
    return found("outdated", split, old, text)


def _is_older(time, other):
    return None not in (time, other) and time < other


def missing(split, title, paths):
    """Files of a split that do not exist, with the name of their kind."""
    return found("missing", split, paths, f"{title} do not exist")


@dataclasses.dataclass(frozen=True)
class CheckedPair:
    """What the files of one pair tell.

    Attributes:
        files: for each of `check_pair`'s paths None or a dict: "path", "error" (None or "missing" or text), "size"
            (height, width), "kinds" (["grey-scale"], for instance), "digest" (of the file's bytes, or None).
        origin: how the polar map was made: "published", "unstretched", "other", or None where it cannot be told.
        panorama_agrees: whether the prepared panorama is made from the panorama; None where it cannot be told.
        colours: (2, rows, columns, 3) float32 of the polar map and the panorama, or None.
    """

    files: tuple
    origin: str | None
    panorama_agrees: bool | None
    colours: np.ndarray | None


def check_pair(prepare_panorama, paths):
    """All that the files of one pair tell; the function of a worker process.

    Args:
        prepare_panorama: how a panorama is prepared (`preparation.street_view`); None: it is not.
        paths: (aerial tile, panorama, polar map, prepared panorama or None).

    Returns:
        CheckedPair.
    """
    files, images = zip(*(_read(path) if path is not None else (None, None) for path in paths), strict=True)
    tile, panorama, polar, prepared = images
    origin = agrees = colours = None
    if tile is not None and tile.shape[0] == tile.shape[1]:
        expected = polar_map(tile)
        if polar is not None:
            origin = (
                "published"
                if np.array_equal(polar, expected)
                else "unstretched"
                if np.array_equal(polar, polar_map(tile, stretch=False))
                else "other"
            )
        else:
            polar = expected
    if prepare_panorama is not None and panorama is not None and panorama.shape[1] == 2 * panorama.shape[0]:
        expected = prepare_panorama(panorama)
        agrees = None if prepared is None else bool(np.array_equal(prepared, expected))
        panorama = expected
    if polar is not None and panorama is not None:
        colours = np.stack([ground_colours(polar), ground_colours(panorama)])
    return CheckedPair(files, origin, agrees, colours)


def _read(path):
    file = {"path": path, "error": None, "size": None, "kinds": [], "digest": None}
    if not os.path.exists(path):
        return file | {"error": "missing"}, None
    try:
        content = read_bytes(path)
        image = decode_image(path, content)
    except ImageError as error:
        return file | {"error": str(error)}, None
    digest = hashlib.blake2b(content, digest_size=16).digest()
    return file | {"size": image.shape[:2], "kinds": _kinds(content, image), "digest": digest}, image


def _kinds(content, image):
    """What an image is besides eight bits of three colours; all of it is converted when it is read."""
    kinds = []
    if content.startswith(JPEG_START):
        space = simplejpeg.decode_jpeg_header(content)[2]
        kinds += ["grey-scale"] if space == "Gray" else ["CMYK"] if space in ("CMYK", "YCCK") else []
    elif content.startswith(PNG_START):
        depth, colour_type = struct.unpack_from("BB", content, 24)
        kinds += (["16-bit"] if depth == 16 else []) + ([COLOUR_TYPES[colour_type]] if colour_type != 2 else [])
    if not kinds and not np.ptp(image, axis=2).any():
        kinds.append("without colour")
    return kinds


def copies(results, titles):
    """Aerial tiles and panoramas whose bytes are those of another file, within a split and across both.

    Args:
        results: {name of the split: list of CheckedPair}.
        titles: names of the four kinds of files.
    """
    findings = []
    for number, title in enumerate(titles[:2]):
        paths = {split: _paths_of_content(pairs, number) for split, pairs in results.items()}
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


def _paths_of_content(pairs, number):
    """{digest: paths} of one kind of files of CheckedPairs."""
    paths = collections.defaultdict(set)
    for file in (pair.files[number] for pair in pairs):
        if file["digest"] is not None:
            paths[file["digest"]].add(file["path"])
    return paths


def check_images(pairs, results, titles, sizes):
    """What the results of `check_pair` say of a split's files.

    Args:
        pairs: datasets.dataset.Pairs.
        results: list of CheckedPair.
        titles: names of the four kinds of files.
        sizes: (height, width) of each kind as published.
    """
    findings, split = [], pairs.split
    for number, (title, published) in enumerate(zip(titles, sizes, strict=True)):
        files = [result.files[number] for result in results if result.files[number] is not None]
        sized = [file for file in files if file["size"]]
        counts = collections.Counter(file["size"] for file in sized)
        usual = max(counts, key=counts.get, default=None)
        odd = [f"{file['path']} ({by_pixels(file['size'])})" for file in sized if file["size"] != usual]
        distorted = [file["path"] for file in sized if not same_ratio(file["size"], published)]
        broken = [file["error"] for file in files if file["error"] not in (None, "missing")]
        findings += missing(split, title, [file["path"] for file in files if file["error"] == "missing"])
        findings += found("unreadable", split, broken, f"{title} cannot be decoded, or in part only")
        ratio = f"{title} have another aspect ratio than the dataset's {by_pixels(published)}"
        findings += found("ratio", split, distorted, ratio)
        if odd:
            findings += found("size", split, odd, f"{title} differ in size from the majority ({by_pixels(usual)})")
        for kind in sorted(set(itertools.chain.from_iterable(file["kinds"] for file in files))):
            of_kind = [file["path"] for file in files if kind in file["kinds"]]
            findings += found("kind", split, of_kind, f"{title} are {kind}; they are converted when they are read", False)
    for origin, check, text in (
        ("unstretched", "stretch", "polar maps are made without the min-max stretch, unlike the paper's"),
        ("other", "content", "polar maps are not what data_preparation.py makes of their tiles"),
    ):
        findings += found(check, split, [each.files[2]["path"] for each in results if each.origin == origin], text)
    wrong = [result.files[3]["path"] for result in results if result.panorama_agrees is False]
    text = "prepared panoramas are not what data_preparation.py makes of their panoramas"
    return findings + found("content", split, wrong, text)
