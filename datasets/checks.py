"""What can be wrong with a dataset that loads: each check is a function from pairs or files to findings."""

import collections
import dataclasses
import hashlib
import itertools
import os
import struct

import cv2
import numpy as np
import simplejpeg

from datasets.cvact import HIT_METRES
from datasets.image_files import JPEG_START, PNG_START, ImageError, decode_image, read_bytes, same_ratio
from datasets.positions import distances_to_nearest
from datasets.preparation import polar_map

GRID = 4, 64  # rows and columns of a view's colours for the statistic of orientation
LEAST_PAIRS = 30  # that the statistic needs
CHANCE = 0.35  # share of pairs that look no more like each other than strangers, above which a split is reported
# Standard deviations by which a turned or mirrored view must beat the straight one before the whole split is reported.
# Five real CVUSA pairs average 1.78 straight, 1.84 turned by 180 degrees, and -0.8 mirrored and turned by 90 or 270: a
# street looks alike ahead and behind. Toy towns have 3.0 to 4.0, 0.0 to 0.5, and 0.3 to -1.0.
LEAST_MARGIN = 1.0
# Standard deviations that make a single pair suspicious: its own score, and how much it beats the straight one by. In six
# sound toy towns of 400 places each they name no pair; of those changed on purpose they find two thirds of the mirrored and
# the turned, and half of the swapped.
SINGLE_SCORE, SINGLE_GAIN = 2.25, 2.25
SWAPPED_SCORE, SWAPPED_GAIN = 2.5, 2.0
CHANCE_SINGLE = 0.001  # share of pairs that may be named by chance: what no case among 2,400 leaves possible
HALF_TURN = "turned by 180 degrees"
TURNS = {"turned by 90 degrees": 16, HALF_TURN: 32, "turned by 270 degrees": 48}  # columns of GRID
COLOUR_TYPES = {0: "grey-scale", 3: "palette", 4: "grey-scale with alpha", 6: "alpha"}  # of PNG


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something worth saying about a dataset.

    Attributes:
        check: its name, such as "missing".
        split: such as "train", or "" for the whole dataset.
        count: how many files, pairs or places.
        text: for a person: what it is, and what follows.
        problem: whether it is one; else a note.
        examples: the files or ids.
    """

    check: str
    split: str
    count: int
    text: str
    problem: bool = True
    examples: tuple = ()


def listing(dataset, splits):
    """Counts, duplicates, and what training and test splits share, as far as the lists tell.

    Args:
        dataset: dataset.Dataset.
        splits: {name: dataset.Pairs}.

    Returns:
        List of Finding.
    """
    findings = []
    for name, pairs in splits.items():
        published = dataset.published_counts[name]
        if len(pairs) != published:
            findings.append(
                Finding("count", name, len(pairs), f"pairs, where the published split has {published:,}", problem=False)
            )
        twice = [each for each, count in collections.Counter(pairs.ids).items() if count > 1]
        if twice:
            findings.append(
                Finding(
                    "duplicate ids",
                    name,
                    len(twice),
                    "ids are listed more than once: in training such a pair is its own negative, in testing it fills two ranks",
                    examples=tuple(twice),
                )
            )
        for title, rows in _files_of_rows(pairs).items():
            repeated = [path for path, ids in rows.items() if len(ids) > 1]
            if repeated:
                findings.append(
                    Finding(
                        "duplicate files",
                        name,
                        len(repeated),
                        f"{title} stand in more than one row: at most one of these rows can be right",
                        examples=tuple(repeated),
                    )
                )
    return findings + leakage(splits)


def _files_of_rows(pairs):
    """{title: {path: ids of the rows that name it}} of a split's two kinds of images."""
    found = {}
    for title, paths in (("aerial images", pairs.sat_paths), ("panoramas", pairs.grd_paths)):
        rows = found[title] = collections.defaultdict(set)
        for path, name in zip(map(os.path.normpath, paths), pairs.ids, strict=True):
            rows[path].add(name)
    return found


def leakage(splits):
    """Places that the training and the test split share, by id, file and distance; arguments as for `listing`."""
    if not {"train", "val"} <= set(splits):
        return []
    train, val = splits["train"], splits["val"]
    shared = sorted(set(train.ids) & set(val.ids))
    findings = (
        [
            Finding(
                "leakage by id",
                "val",
                len(shared),
                "ids are in the training split too: their recall is of places that were trained on",
                examples=tuple(shared),
            )
        ]
        if shared
        else []
    )
    for title, rows in _files_of_rows(val).items():
        trained = _files_of_rows(train)[title]
        both = [path for path, ids in rows.items() if ids - trained.get(path, ids)]  # the same ids are said above
        if both:
            findings.append(
                Finding(
                    "leakage by file",
                    "val",
                    len(both),
                    f"{title} are in the training split too, under other ids: their recall is of images that were trained on",
                    examples=tuple(both),
                )
            )
    if train.utm is not None:
        distances = distances_to_nearest(val.utm, train.utm)
        near = np.flatnonzero(distances < HIT_METRES)
        if near.size:
            findings.append(
                Finding(
                    "leakage by distance",
                    "val",
                    near.size,
                    f"places are less than {HIT_METRES:g} m from a training place",
                    problem=False,
                    examples=tuple(val.ids[row] for row in near),
                )
            )
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

    old = [
        prepared
        for source, prepared in made
        if None not in (times := (changed(source), changed(prepared))) and times[1] < times[0]
    ]
    return (
        [
            Finding(
                "outdated",
                split,
                len(old),
                "prepared files are older than what they are made from: run data_preparation.py --overwrite",
                examples=tuple(old),
            )
        ]
        if old
        else []
    )


def missing(split, title, paths):
    """Files of a split that do not exist, with the name of their kind."""
    return [Finding("missing", split, len(paths), f"{title} do not exist", examples=tuple(paths))] if paths else []


@dataclasses.dataclass(frozen=True)
class CheckedPair:
    """What the files of one pair tell.

    Attributes:
        files: for each of `check_pair`'s paths None or a dict: "path", "error" (None or "missing" or text), "size"
            (height, width), "kinds" (a list such as ["grey-scale"]), "digest" (of the file's bytes, or None).
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
        prepare_panorama: how a panorama is prepared, such as `preparation.street_view`; None: it is not.
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
        colours = np.stack([_colours(polar), _colours(panorama)])
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


def _colours(image):
    """The colours of an image's lower half, of the ground near by, relative to their row's mean, of length 1 a row."""
    colours = cv2.resize(image[image.shape[0] // 2 :], GRID[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)
    colours -= colours.mean(axis=1, keepdims=True)
    return colours / np.maximum(np.sqrt((colours**2).sum(axis=1, keepdims=True)), 1)


def copies(results, titles):
    """Aerial tiles and panoramas whose bytes are those of another file, within a split and across both.

    Args:
        results: {name of the split: list of CheckedPair}.
        titles: names of the four kinds of files.
    """
    findings = []
    for number, title in enumerate(titles[:2]):
        paths = {split: collections.defaultdict(set) for split in results}
        for split, pairs in results.items():
            for file in (pair.files[number] for pair in pairs):
                if file["digest"] is not None:
                    paths[split][file["digest"]].add(file["path"])
        for split, of_digest in paths.items():
            groups = [" = ".join(sorted(same)) for same in of_digest.values() if len(same) > 1]
            if groups:
                findings.append(
                    Finding(
                        "copies",
                        split,
                        len(groups),
                        f"{title} lie there more than once, under several names: at most one of these pairs can be right",
                        examples=tuple(groups),
                    )
                )
        if {"train", "val"} <= set(paths):
            shared = [
                " = ".join(sorted(same | paths["train"][digest]))
                for digest, same in paths["val"].items()
                if paths["train"].get(digest, same) != same
            ]
            if shared:
                findings.append(
                    Finding(
                        "leakage by content",
                        "val",
                        len(shared),
                        f"{title} are copies of images of the training split: their recall is of images that were trained on",
                        examples=tuple(shared),
                    )
                )
    return findings


def orientation(pairs, colours):
    """What the colours say of pairs that are mirrored, turned or swapped.

    The statistic: how much more a panorama's colours around the horizon resemble those of its own polar map than those
    of others, in standard deviations. A single pair that resembles its tile no more than others is not reported:
    in forests and deserts that is usual. Where a split looks alike ahead and behind, turns by 180 degrees cannot be
    told, and a note says so.

    Args:
        pairs: dataset.Pairs.
        colours: of `CheckedPair`, a list with an entry (or None) for each pair.
    """
    rows = [row for row, each in enumerate(colours) if each is not None]
    if len(rows) < LEAST_PAIRS:
        return [
            Finding(
                "orientation",
                pairs.split,
                len(rows),
                f"pairs are too few to tell whether some are mirrored, turned or swapped, which takes {LEAST_PAIRS}",
                problem=False,
            )
        ]
    sat, grd = (np.stack([colours[row][view] for row in rows]) for view in (0, 1))
    views = {"straight": sat, "mirrored": np.roll(sat[:, :, ::-1], 1, axis=2)}
    views |= {name: np.roll(sat, columns, axis=2) for name, columns in TURNS.items()}
    strangers = _strangers(grd, sat)
    own = {name: strangers.standardised(np.einsum("nd,nd->n", _flat(grd), _flat(view))) for name, view in views.items()}
    average = {name: score.mean() for name, score in own.items()}
    winner = max(average, key=average.get)
    if average[winner] > average["straight"] + LEAST_MARGIN + 3 / np.sqrt(len(rows)):  # three standard errors
        return [
            Finding(
                winner,
                pairs.split,
                len(rows),
                f"pairs agree better, on average, with tiles {winner}: "
                f"{average[winner]:.2f} against {average['straight']:.2f} standard deviations",
            )
        ]
    unlike = float(np.mean(own["straight"] < 0))
    if unlike > CHANCE:
        return [
            Finding(
                "unlike",
                pairs.split,
                int(round(unlike * len(rows))),
                "pairs look no more like each other than strangers (half would by chance): their order may be mixed up",
            )
        ]
    findings, suspicious = [], ["mirrored", HALF_TURN]
    if average["straight"] < average[HALF_TURN] + LEAST_MARGIN:
        suspicious.remove(HALF_TURN)
        findings.append(
            Finding(
                "ahead and behind",
                pairs.split,
                len(rows),
                "pairs look so much alike ahead and behind "
                f"({average['straight']:.2f} straight, {average[HALF_TURN]:.2f} turned, in standard "
                "deviations) that panoramas turned by 180 degrees cannot be told",
                problem=False,
            )
        )

    def note(name, selected, by_chance):
        expected = by_chance + 3 * np.sqrt(by_chance) + CHANCE_SINGLE * len(rows)
        if selected.any():
            findings.append(
                Finding(
                    f"{name} pairs",
                    pairs.split,
                    int(selected.sum()),
                    f"pairs look {name}; look at them (up to {int(expected):,} of so many can be chance)",
                    problem=bool(selected.sum() > expected),
                    examples=tuple(pairs.ids[rows[number]] for number in np.flatnonzero(selected)),
                )
            )

    # Chance is counted where nothing true can be found: among quarter turns, and among mirrored tiles.
    quarter = max(int(_beats(own, name).sum()) for name in TURNS if name != HALF_TURN)
    for name in suspicious:
        note(name, _beats(own, name), quarter)
    decoys = _strangers(grd, views["mirrored"])
    note("swapped", _swapped(strangers, own["straight"]), int(_swapped(decoys, own["straight"]).sum()))
    return findings


@dataclasses.dataclass(frozen=True)
class Strangers:
    """How panoramas resemble the tiles of other places.

    Attributes:
        mean, deviation: (N,) of each panorama's scores with all tiles.
        best: (N,) int64, the most similar tile of another place.
        best_score: (N,) its score, standardised.
    """

    mean: np.ndarray
    deviation: np.ndarray
    best: np.ndarray
    best_score: np.ndarray

    def standardised(self, scores):
        """(N,) scores in standard deviations from the mean of each panorama."""
        return (scores - self.mean) / self.deviation


def _flat(views):
    return views.reshape(len(views), -1)


def _strangers(grd, sat):
    """Strangers of (N, rows, columns, 3) colours, block by block."""
    mean, deviation, best, score = (np.empty(len(grd)) for _ in range(4))
    for start in range(0, len(grd), 1024):
        block = slice(start, start + 1024)
        scores = _flat(grd)[block] @ _flat(sat).T
        mean[block], deviation[block] = scores.mean(axis=1), np.maximum(scores.std(axis=1), 1e-6)
        scores[np.arange(len(scores)), np.arange(start, start + len(scores))] = -np.inf
        best[block], score[block] = scores.argmax(axis=1), scores.max(axis=1)
    return Strangers(mean, deviation, best.astype(int), (score - mean) / deviation)


def _beats(own, name):
    """Which pairs look like another view of their tile, and much more so than straight."""
    return (own[name] > SINGLE_SCORE) & (own[name] - own["straight"] > SINGLE_GAIN)


def _swapped(strangers, straight):
    """Which pairs have a partner such that each one's panorama is most like the other's tile, and not like its own."""
    best, score = strangers.best, strangers.best_score
    gain = score - straight
    return (
        (best[best] == np.arange(len(best)))
        & (np.minimum(score, score[best]) > SWAPPED_SCORE)
        & (np.minimum(gain, gain[best]) > SWAPPED_GAIN)
    )


def files(pairs, results, titles, sizes):
    """What the results of `check_pair` say of a split's files.

    Args:
        pairs: dataset.Pairs.
        results: list of CheckedPair.
        titles: names of the four kinds of files.
        sizes: (height, width) of each kind as published.
    """
    findings = []
    for number, (title, published) in enumerate(zip(titles, sizes, strict=True)):
        found = [result.files[number] for result in results if result.files[number] is not None]
        broken = [file["error"] for file in found if file["error"] not in (None, "missing")]
        sizes = collections.Counter(file["size"] for file in found if file["size"])
        usual = max(sizes, key=sizes.get, default=None)
        odd = [
            f"{file['path']} ({file['size'][0]}x{file['size'][1]})" for file in found if file["size"] and file["size"] != usual
        ]
        findings += missing(pairs.split, title, [file["path"] for file in found if file["error"] == "missing"])
        if broken:
            findings.append(
                Finding(
                    "unreadable",
                    pairs.split,
                    len(broken),
                    f"{title} cannot be decoded, or in part only",
                    examples=tuple(broken),
                )
            )
        distorted = [file["path"] for file in found if file["size"] and not same_ratio(file["size"], published)]
        if distorted:
            findings.append(
                Finding(
                    "ratio",
                    pairs.split,
                    len(distorted),
                    f"{title} have another aspect ratio than the dataset's {published[0]}x{published[1]}",
                    examples=tuple(distorted),
                )
            )
        if odd:
            findings.append(
                Finding(
                    "size",
                    pairs.split,
                    len(odd),
                    f"{title} differ in size from the majority ({usual[0]}x{usual[1]})",
                    examples=tuple(odd),
                )
            )
        for kind in sorted(set(itertools.chain.from_iterable(file["kinds"] for file in found))):
            of_kind = [file["path"] for file in found if kind in file["kinds"]]
            findings.append(
                Finding(
                    "kind",
                    pairs.split,
                    len(of_kind),
                    f"{title} are {kind}; they are converted when they are read",
                    problem=False,
                    examples=tuple(of_kind),
                )
            )
    for origin, text in (
        ("unstretched", "polar maps are made without the min-max stretch, unlike the paper's"),
        ("other", "polar maps are not what data_preparation.py makes of their tiles"),
    ):
        names = [result.files[2]["path"] for result in results if result.origin == origin]
        if names:
            findings.append(
                Finding(
                    "stretch" if origin == "unstretched" else "content", pairs.split, len(names), text, examples=tuple(names)
                )
            )
    names = [result.files[3]["path"] for result in results if result.panorama_agrees is False]
    if names:
        findings.append(
            Finding(
                "content",
                pairs.split,
                len(names),
                "prepared panoramas are not what data_preparation.py makes of their panoramas",
                examples=tuple(names),
            )
        )
    return findings
