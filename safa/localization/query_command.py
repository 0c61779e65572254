"""The commands of localize.py that ask an index: find where panoramas were taken, learn how sure answers are."""

import collections
import dataclasses
import functools
import hashlib
import itertools
import os
import re
import sys

import msgspec
import numpy as np

from safa.localization.answer_page import write_answer_page, write_quality_page
from safa.localization.answers import COLLECTION, answer_table, as_csv, as_geojson, as_json, as_json_lines
from safa.localization.gpx_track import TrackConfig, along_track
from safa.localization.index import Index
from safa.localization.index_files import CALIBRATION, MANIFEST
from safa.localization.joined_index import JoinedIndex
from safa.localization.journal import kept_answers
from safa.localization.located_files import read_located_files
from safa.localization.panorama import asked_panorama, photo_notes
from safa.localization.places import QueryConfig
from safa.retrieval.evaluation import HEADING_DEGREES
from safa.runtime.cluster import say
from safa.runtime.command_line import add_settings, at_least, parsed
from safa.runtime.errors import UserError, first_few, printable, shortened
from safa.runtime.files import append, read_file, write_whole
from safa.runtime.outputs import Output, check_outputs

WITHIN = (5.0, 10.0, 25.0)  # metres of the known location: shares that are reported
IMAGES = (".jpg", ".jpeg", ".png")  # endings of a folder's files that are panoramas
OTHER_IMAGES = ".heic .heif .avif .webp .jxl .jp2 .tif .tiff .bmp .gif .insp .jfif .mpo .dng .gpr .arw .cr2 .cr3 .nef".split()
HIDDEN = (".", "@eaDir", "#recycle")  # how names of files and folders begin that hold a system's previews, or what was deleted
ANSWERS_TITLE, QUALITY_TITLE = "Where panoramas were taken", "How far answers are off"
# What a query writes, and how a file begins that an earlier one wrote.
OUTPUTS = {
    "json": ("all places to this JSON file", r'\{\s*"tiles":'),
    "jsonl": ("all places to this file, a line of JSON for each panorama, as they come", r'\{"panorama": '),
    "geojson": ("all places to this GeoJSON file", rf'\{{\s*"type": "FeatureCollection",\s*"name": "{COLLECTION}"'),
    "csv": ("all places to this CSV file, as they come", "panorama,rank,known,"),
    "html": ("one self-contained page: panoramas, their places, and a map of the tiles", f".*<title>{ANSWERS_TITLE}<"),
    "quality": ("a page of how far answers are from known locations, and how sure they were", f".*<title>{QUALITY_TITLE}<"),
}


def add_query(parser):
    """Add the flags of `query`."""
    _add_panoramas(parser)
    add_settings(parser.add_argument_group("drives"), TrackConfig)
    for name, (content, _) in OUTPUTS.items():
        ending = "html" if name == "quality" else name
        parser.add_argument(f"--{name}", metavar=f"FILE.{ending}", help=f"write {content}")


def add_calibrate(parser):
    """Add the flags of `calibrate`."""
    _add_panoramas(parser, {"top": QueryConfig.top, "merge_metres": QueryConfig.merge_metres, "gps_from": "photo"})
    parser.add_argument("--quality", metavar="FILE.html", help=f"write {OUTPUTS['quality'][0]}")
    parser.set_defaults(**dataclasses.asdict(TrackConfig()))
    parser.add_argument(
        "--wrong_share",
        type=at_least(float, 0.0001, 0.9999),
        default=0.05,
        metavar="SHARE",
        help='share of the answers that may be wrong at most; less sure ones are "unknown"',
    )


def _add_panoramas(parser, fixed=()):
    parser.add_argument("index", metavar="INDEX", help="folder of the index")
    parser.add_argument(
        "panoramas",
        nargs="+",
        metavar="PANORAMA",
        help="equirectangular images, folders of them, or CSV lists (path, and if known heading, accuracy, and latitude, "
        "longitude or easting, northing, epsg); for query, also more indexes, first",
    )
    parser.add_argument("--checkpoint", metavar="PATH", help="check that the index was built with these weights")
    add_settings(parser, QueryConfig, only=[each.name for each in dataclasses.fields(QueryConfig) if each.name not in fixed])
    parser.set_defaults(**dict(fixed))


def query(args):
    """Find where panoramas were taken: the best places of an index, with coordinates and how sure they are."""
    config = parsed(QueryConfig, args)
    index, panoramas, identity = _asked(args, config)
    given = [getattr(args, name) for name in OUTPUTS if getattr(args, name) is not None]
    with kept_answers(next(iter(given), None), identity, panoramas) as journal:
        rest = [number for number in range(len(panoramas)) if number not in journal.answers]
        if journal.answers:
            say(f"{len(journal.answers):,} of {len(panoramas):,} panoramas were answered before; going on with the others")
        as_whole = functools.partial(as_json, manifest=index.manifest)
        texts = {args.json: as_whole, args.geojson: as_geojson, args.jsonl: as_json_lines, args.csv: as_csv}
        texts.pop(None, None)
        growing = {args.jsonl, args.csv} & texts.keys() if config.sequence is None else ()  # a drive's are given at its end
        before = [answer for _, answer in sorted(journal.answers.items())]
        for number, answer in zip(rest, index.found([panoramas[n] for n in rest], config), strict=True):
            journal.add(number, answer)
            for path in growing:
                if number == rest[0]:
                    write_whole(path, texts[path](before).encode(errors="replace"), durable=False)
                append(path, texts[path]([answer]).removeprefix(texts[path]([])).encode(errors="replace"))
        answers = index.finished([journal.answers[number] for number in range(len(panoramas))], config)
        usable = [answer for answer in answers if answer.problem is None]
        say(*answer_table(usable) if usable else (), *result_lines(usable), *_notes(index, panoramas, config))
        for path, text in texts.items():
            write_whole(path, text(answers).encode(errors="replace"))
        if args.html is not None:
            write_answer_page(args.html, ANSWERS_TITLE, index, usable, config)
        if args.quality is not None:
            write_quality_page(args.quality, QUALITY_TITLE, index, usable, config)
    _end([answer for answer in answers if answer.problem is not None], len(answers))


def calibrate(args):
    """Learn from panoramas of known locations how sure answers are, and below which confidence they are "unknown"."""
    config = parsed(QueryConfig, args)
    index, panoramas, _ = _asked(args, config)
    calibration, answers, failed = index.calibrate(panoramas, args.wrong_share, **dataclasses.asdict(config))
    name, of = config.view_name(answers[0].panorama), f"{calibration.right:,} of {calibration.answers:,}"
    lines = f"{os.path.join(args.index, CALIBRATION)}: {name}; {of} best places are right", _confidence(calibration)
    say(*result_lines(answers), *lines)
    if args.quality is not None:
        write_quality_page(args.quality, QUALITY_TITLE, index, answers, config)
    _end(failed, len(panoramas))


def _asked(args, config):
    """The Index of a command, the Panoramas that it names, and a digest of all that answers depend on but their files."""
    track, named, inputs = parsed(TrackConfig, args), [], [path for path in (args.checkpoint, args.gpx) if path is not None]
    folders = [args.index, *itertools.takewhile(lambda path: os.path.isfile(os.path.join(path, MANIFEST)), args.panoramas)]
    for path in args.panoramas[len(folders) - 1 :]:
        if path.lower().endswith(".csv"):
            inputs.append(path)
            named += _listed(path)
        elif os.path.isdir(path):
            named += [(each, None, None, None) for each in _photos_in(path)]
        elif os.path.isfile(path):
            named.append((path, None, None, None))
        else:
            raise UserError(f"{shortened(path)}: no such panorama; name equirectangular images, folders or CSV lists of them")
    inputs += [path for path, *_ in named]
    inputs += [entry.path for folder in folders if os.path.isdir(folder) for entry in os.scandir(folder)]
    begins = {name: re.compile(beginning.encode(), re.DOTALL) for name, (_, beginning) in OUTPUTS.items()}
    check_outputs([Output(f"--{name}", getattr(args, name, None), begins[name]) for name in OUTPUTS], inputs)
    if not named:
        raise UserError("no panoramas; name them after the indexes")
    index = Index(args.index) if len(folders) == 1 else JoinedIndex(folders)
    if args.checkpoint is not None:
        index.load_ground(args.checkpoint)
    panoramas = [asked_panorama(path, config, *known) for path, *known in named]
    say(*photo_notes(panoramas, index, config))
    if track.gpx is None and track != TrackConfig() or track.mount and (config.unknown_heading or config.heading is not None):
        raise UserError("--mount, --clock: of a drive's track, --gpx, and --mount of its headings alone; leave them out")
    if track.gpx is not None:
        panoramas = along_track(panoramas, track, config)
    if args.quality is not None and not any(each.location and not each.problem for each in panoramas):
        raise UserError("--quality: no panorama's location is known; list panoramas with their coordinates")
    named = [(path.encode(errors="surrogateescape"), *known) for path, *known in named]
    gpx = None if track.gpx is None else read_file(track.gpx)
    depends = msgspec.json.encode([index.manifest.digest, config, index.calibrations, named, track, gpx])
    return index, panoramas, hashlib.sha256(depends).hexdigest()


def _photos_in(path):
    """The photos of a folder and those below it, in order of their names; a line says what else is there and skipped."""
    found, skipped = [], collections.Counter()
    for folder, below, names in os.walk(path, onerror=lambda _: skipped.update(["unreadable folders"])):
        below[:] = [name for name in below if not name.startswith(HIDDEN)]
        skipped.update("linked folders" for name in below if os.path.islink(os.path.join(folder, name)))
        endings = {name: os.path.splitext(name)[1].lower() for name in names if not name.startswith(HIDDEN)}
        skipped.update(ending for ending in endings.values() if ending in OTHER_IMAGES)
        found += [os.path.join(folder, name) for name, ending in endings.items() if ending in IMAGES]
    others = "skipped " + ", ".join(f"{count:,} {what}" for what, count in sorted(skipped.items()))
    if not found:
        none = f"no {', '.join(IMAGES)} in this folder{f' ({others})' if skipped else ''}"
        raise UserError(f"{shortened(path)}: {none}; name one with panoramas")
    if skipped:
        say(f"{shortened(path)}: {others}; convert images to JPEG or PNG, and name linked folders")
    return sorted(found)


def _listed(path):
    """(path, heading, location, accuracy) of each row of a CSV list."""
    listed = read_located_files(path, needs_locations=False)
    if not any(map(os.path.isfile, listed.paths)):
        raise UserError(f"{path}: none of its {len(listed.paths):,} images exists; paths are relative to the list's folder")
    say(*listed.notes)
    columns = listed.headings.tolist(), map(tuple, listed.locations.tolist()), listed.accuracies.tolist()
    return zip(listed.paths, *([None if np.isnan(each).any() else each for each in column] for column in columns), strict=True)


def _end(failed, count):
    """Exit code 1 if some panoramas could not be used, an error if none could."""
    if failed:
        line = f"{len(failed):,} of {count:,} panoramas could not be used: {first_few([each.problem for each in failed])}"
        if len(failed) == count:
            raise UserError(line)
        print(f"localize.py: {printable(line)}", file=sys.stderr)
        sys.exit(1)


def result_lines(answers):
    """How far answers are from known locations and headings."""
    located = [answer for answer in answers if answer.metres_off is not None]
    if located:
        off = np.array([answer.metres_off for answer in located])
        shares = ", ".join(f"{100 * np.mean(off <= bound):.1f} % within {bound:g} m" for bound in WITHIN)
        yield f"{len(off):,} panoramas of known location: {shares}; median {np.median(off):.1f} m"
    near = [answer for answer in located if answer.degrees_off is not None and answer.metres_off <= WITHIN[-1]]
    if near:
        off = np.array([answer.degrees_off for answer in near])
        yield (
            f"headings of the {len(off):,} within {WITHIN[-1]:g} m: median {np.median(off):.1f} degrees off, "
            f"{100 * np.mean(off <= HEADING_DEGREES):.1f} % within {HEADING_DEGREES:g} degrees"
        )


def _notes(index, panoramas, config):
    """What the search and the confidence of answers rest on."""
    rough = [each.rough for each in panoramas if each.rough is not None]
    if rough or (config.near, config.gps_sigma, config.gps_from) != (None, None, QueryConfig.gps_from):
        everywhere = len(panoramas) - len(rough)
        yield f"{len(rough):,} panoramas searched around a rough position, {everywhere:,} of unknown position everywhere"
    calibrated = {config.view_name(each): index.calibration(config, each) for each in panoramas if each.problem is None}
    yield from map(_confidence, filter(None, calibrated.values()))
    if others := first_few([name for name, calibration in calibrated.items() if calibration is None]):
        margin = f"calibrate turns the margin, to the best tile more than {config.radius:g} m away, into a confidence"
        drive = "the confidence of a drive is how far its panoramas agree"
        yield f"not calibrated ({others}): {margin if config.sequence is None else drive}"


def _confidence(calibration):
    """What confidence rests on, and which answers are "unknown"."""
    rule = 'no threshold keeps --wrong_share, so all are "unknown"; calibrate on more panoramas, or allow more'
    if calibration.answered:
        given = f"{calibration.answered:,} of them are given, {calibration.wrong:,} of these wrong"
        rule = f'below {100 * calibration.threshold:.1f} % it is "unknown": {given}'
    return f"confidence: of {calibration.answers:,} calibrated answers; {rule}"
