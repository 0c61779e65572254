"""The flags of localize.py and its courses: build an index, ask it, calibrate it."""

import os

import numpy as np

from safa.datasets.registry import DATASETS
from safa.launch.given_data import say
from safa.loading import found_network, load_network
from safa.localization.answers import answer_table, as_csv, as_geojson, as_json
from safa.localization.building import IndexConfig, build_index
from safa.localization.index import Index
from safa.localization.index_files import CALIBRATION, Described
from safa.localization.located_files import read_located_files
from safa.localization.panorama import panorama_of
from safa.localization.places import QueryConfig
from safa.localization.tile_source import Cut, open_tile_source
from safa.retrieval.evaluation import HEADING_DEGREES
from safa.runtime.backend import importing_tensorflow
from safa.runtime.command_line import Parser, add_settings, at_least, check_output, parsed
from safa.runtime.errors import UserError, shortened
from safa.runtime.files import write_whole
from safa.settings import RunConfig, TrainingConfig, add_network
from safa.training.run_folder import given_settings, trained_on_dataset

SPACING = 16  # tiles are cut this many times as dense as they are large: networks tolerate few metres (docs/localisation.md)
TILE_PIXELS = 750
OTHER_SIZE = 0.1  # share by which a tile's ground size may differ from training's without a warning
WRONG_SIZE = 2.0  # factor that is refused
NO_THRESHOLD = 'no threshold keeps wrong answers so few, so all are "unknown"'
WITHIN = (5.0, 10.0, 25.0)  # metres of the known position: shares that are reported
OUTPUTS = {"json": as_json, "geojson": as_geojson, "csv": as_csv}


def localization_parser(description):
    """The flags of localize.py."""
    parser = Parser(description)
    steps = parser.add_subparsers(dest="step", required=True, metavar="{build,query,calibrate}")
    _add_build(steps.add_parser("build", help="make an index of aerial tiles", description=_build.__doc__))
    query = steps.add_parser("query", help="find where panoramas were taken", description=_query.__doc__)
    _add_query(query)
    for name in OUTPUTS:
        query.add_argument(f"--{name}", metavar=f"FILE.{name}", help=f"write all places to this {name.upper()} file")
    query.add_argument(
        "--html", metavar="FILE.html", help="write one self-contained page: panoramas, their places, and a map of the tiles"
    )
    calibrate = steps.add_parser("calibrate", help="learn how sure answers are", description=_calibrate.__doc__)
    _add_query(calibrate, {"top", "merge_metres", "sequence"})
    calibrate.add_argument(
        "--wrong_share",
        type=at_least(float, 0.0001, 0.9999),
        default=0.05,
        metavar="SHARE",
        help='of the answers, the most that may be wrong; less sure ones are "unknown"',
    )
    return parser


def launch_localization(description):
    """Parse the flags of localize.py and do what they ask."""
    args = localization_parser(description).parse_args()
    {"build": _build, "query": _query, "calibrate": _calibrate}[args.step](args)


def _add_build(parser):
    parser.add_argument("index", metavar="INDEX", help="folder of the index")
    parser.add_argument(
        "--tiles",
        nargs="+",
        required=True,
        metavar="SOURCE",
        help="a CSV list (path, and latitude, longitude or easting, northing, epsg; tile_metres if known), or GeoTIFFs, or a "
        "folder of GeoTIFFs or of Web Mercator tiles (zoom/x/y.png)",
    )
    parser.add_argument(
        "--checkpoint", required=True, metavar="PATH", help="weights of the network: ours, the authors' or Keras's"
    )
    tiles = parser.add_argument_group("tiles")
    positive = at_least(float, 0.01)
    tiles.add_argument(
        "--tile_metres",
        type=positive,
        metavar="METRES",
        help="ground size of a tile that the network was trained on (default: the training dataset's: CVUSA 175, CVACT 146; a "
        "toy town's are 80)",
    )
    tiles.add_argument(
        "--spacing",
        type=positive,
        metavar="METRES",
        help=f"between the centres of tiles that are cut from imagery (default: --tile_metres / {SPACING})",
    )
    tiles.add_argument(
        "--tile_pixels",
        type=at_least(int, 32, 4096),
        metavar="PIXELS",
        help="side of tiles that are cut from imagery (default: as the training dataset's, CVUSA 750, CVACT 1200; else "
        f"{TILE_PIXELS})",
    )
    tiles.add_argument(
        "--region",
        type=float,
        nargs=4,
        metavar=("WEST", "SOUTH", "EAST", "NORTH"),
        help="degrees in which the centres of cut tiles lie (default: all of the imagery)",
    )
    tiles.add_argument(
        "--zoom", type=at_least(int, 0, 24), metavar="Z", help="of Web Mercator tiles to cut from (default: the deepest)"
    )
    tiles.add_argument("--tms", action="store_true", help="Web Mercator tiles are counted from the south, as TMS has them")
    tiles.add_argument("--skip_missing", action="store_true", help="leave out tiles of a list whose files do not exist")
    tiles.add_argument(
        "--no_stretch", action="store_true", help="the network was trained on polar maps without the paper's min-max stretch"
    )
    tiles.add_argument(
        "--input_vertical_fov",
        type=at_least(float, 1, 180),
        metavar="DEGREES",
        help="from top to bottom that the training panoramas show (default: the training dataset's: CVUSA 65.5, CVACT 90)",
    )
    add_settings(parser.add_argument_group("descriptors"), IndexConfig)
    parser.add_argument("--batch_size", type=at_least(int, 1), default=32, metavar="TILES", help="tiles at a time")
    add_settings(parser, RunConfig, only=["devices"])
    add_settings(parser, TrainingConfig, only=["precision"])
    add_network(parser, from_checkpoint=True)


def _add_query(parser, left_out=()):
    parser.add_argument("index", metavar="INDEX", help="folder of the index")
    parser.add_argument(
        "panoramas",
        nargs="+",
        metavar="PANORAMA",
        help="equirectangular images, or CSV lists of them (path, and if known heading, and latitude, longitude or easting, "
        "northing, epsg)",
    )
    parser.add_argument("--checkpoint", metavar="PATH", help="check that the index was built with these weights")
    parser.add_argument("--approximate", action="store_true", help="search by what build --approximate made")
    fields = [name for name in QueryConfig.__dataclass_fields__ if name not in left_out]
    add_settings(parser, QueryConfig, only=fields)


def _build(args):
    """Describe geo-tagged aerial tiles and keep the descriptors in an index. The same command goes on after a stop."""
    network, note = found_network(args.checkpoint, given_settings(args))
    trained_on = trained_on_dataset(note, args.checkpoint)
    expected = _expected(args, next((kind for kind in DATASETS.values() if kind.name == trained_on), None))
    _check_region(args.region)
    spacing = args.spacing or expected["tile_metres"] / SPACING
    cut = Cut(expected["tile_metres"], spacing, expected["tile_pixels"], args.region and tuple(args.region))
    source = open_tile_source(args.tiles, cut, args.zoom, args.tms, args.skip_missing)
    say(f"{len(source):,} tiles", source.note, _size_warning(source, cut.metres))
    with importing_tensorflow():
        from safa.retrieval.descriptors import DescriptorExtractor
        from safa.runtime.distribution import Distribution, explain_tensorflow_errors
        from safa.training.weights import write_keras_weights
    distribution = Distribution(args.devices, args.precision)
    if distribution.has_others:
        raise UserError("TF_CONFIG: an index is built by one process; unset it")
    say(*distribution.notes)
    with explain_tensorflow_errors(distribution, "a smaller --batch_size"):
        loaded = load_network(args.checkpoint, network, args.precision, distribution)
        model = loaded.model
        say(f"checkpoint: {loaded.path}, {network}", loaded.note)
        stretch, vertical_fov = not args.no_stretch, expected["input_vertical_fov"]
        described = Described(network, loaded.digest, args.precision, trained_on, stretch, cut.metres, vertical_fov)
        extractor = DescriptorExtractor(model, distribution)
        config = parsed(IndexConfig, args)
        built, was_finished = build_index(
            args.index, source, described, config, extractor, lambda path: write_keras_weights(path, model), args.batch_size
        )
    say(*_built_lines(args.index, built, was_finished))


def _expected(args, dataset):
    """What the network expects of tiles and panoramas: the flags' values, or those of the dataset it was trained on.

    Args:
        args: parsed flags.
        dataset: class of datasets.dataset.Dataset, or None where it is not known.

    Returns:
        {"tile_metres", "input_vertical_fov", "tile_pixels": value}.
    """
    expected = {name: getattr(args, name) for name in ("tile_metres", "input_vertical_fov", "tile_pixels")}
    if dataset is not None:
        own = {
            "tile_metres": dataset.tile_metres,
            "input_vertical_fov": dataset.vertical_fov,
            "tile_pixels": dataset.tile_size[0],
        }
        return {name: own[name] if value is None else value for name, value in expected.items()}
    for name in "tile_metres", "input_vertical_fov":
        if expected[name] is None:
            raise UserError(f"--{name}: {args.checkpoint} does not say which dataset it was trained on; name the value")
    return expected | {"tile_pixels": args.tile_pixels or TILE_PIXELS}


def _built_lines(folder, note, was_finished):
    """What is said of a finished index."""
    if was_finished:
        yield f"{folder}: was finished before, of the same tiles and weights"
    between = "" if note.spacing is None else f", {note.spacing:g} m apart"
    yield f"{folder}: {note.tiles:,} tiles{between}, descriptors of {note.dimension:,} values"
    for name, recall in (("--pca", note.pca_recall), ("--approximate", note.approximate_recall)):
        if recall is not None:
            yield (
                f"{name}: finds a tile's nearest other tile, by the full descriptors, first in {100 * recall['1']:.1f} % and "
                f"among ten in {100 * recall['10']:.1f} %"
            )


def _check_region(region):
    if region is None:
        return
    west, south, east, north = region
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise UserError(
            "--region: not WEST SOUTH EAST NORTH in degrees, with west below east and south below north; correct it"
        )


def _size_warning(source, metres):
    """A warning of tiles that show another ground size than the network expects, or None.

    Raises:
        UserError: they differ by more than a factor of WRONG_SIZE.
    """
    if source.metres is None:
        return None
    ratio = source.metres / metres
    worst = int(np.abs(np.log(ratio)).argmax())
    shown = f"{shortened(source.names[worst])} {source.metres[worst]:.1f} m"
    if not 1 / WRONG_SIZE <= ratio[worst] <= WRONG_SIZE:
        raise UserError(
            f"--tiles: {shown} of ground, and the network expects {metres:g} m; cut the tiles again, or name what it was "
            "trained on with --tile_metres"
        )
    count = np.count_nonzero(np.abs(ratio - 1) > OTHER_SIZE)
    if not count:
        return None
    return (
        f"warning: {count:,} tiles show another ground size than the {metres:g} m that the network was trained on, {shown}; "
        "expect fewer right answers"
    )


def _query(args):
    """Find where panoramas were taken: the best places of an index, with coordinates and how sure they are."""
    for name in (*OUTPUTS, "html"):
        check_output(f"--{name}", getattr(args, name))
    index, panoramas, config = _asked(args)
    answers = index.query(panoramas, args.approximate, **_settings(config))
    say(*answer_table(answers), *result_lines(answers), *_confidence_notes(index, config))
    contents = {"json": as_json(answers, index.note), "geojson": as_geojson(answers), "csv": as_csv(answers)}
    for name, content in contents.items():
        if getattr(args, name) is not None:
            write_whole(getattr(args, name), content.encode(errors="replace"))
    if args.html is not None:
        from safa.localization.answer_page import write_answer_page

        write_answer_page(args.html, index, answers, config)


def _calibrate(args):
    """Learn from panoramas of known positions how sure answers are, and below which confidence they are "unknown"."""
    index, panoramas, config = _asked(args)
    calibration, answers = index.calibrate(panoramas, args.wrong_share, args.approximate, **_settings(config))
    say(*result_lines(answers))
    say(
        f"{os.path.join(args.index, CALIBRATION)}: {config.view_name}; {calibration.right:,} of {calibration.answers:,} best "
        f"places are right"
    )
    if calibration.answered:
        say(
            f'below a confidence of {100 * calibration.threshold:.1f} % answers are "unknown": {calibration.answered:,} of '
            f"{calibration.answers:,} are given, {calibration.wrong:,} of them wrong"
        )
    else:
        say(f"{100 * calibration.wrong_share:g} % of wrong answers: {NO_THRESHOLD}; calibrate on more panoramas, or allow more")


def _confidence_notes(index, config):
    """What the confidence of answers rests on."""
    if config.sequence is not None:
        yield "confidence: of the drive, as its panoramas agree"
    elif index.calibration(config) is None:
        yield (
            f"margin: to the best tile more than {config.radius:g} m away; localize.py calibrate turns it into a confidence "
            f"({config.view_name})"
        )
    else:
        calibration = index.calibration(config)
        unknown = f'below {100 * calibration.threshold:.1f} % it is "unknown"' if calibration.answered else NO_THRESHOLD
        yield f"confidence: of {calibration.answers:,} calibrated answers; {unknown}"


def result_lines(answers):
    """How far answers are from known positions and headings."""
    off = [answer.metres_off for answer in answers if answer.metres_off is not None]
    if off:
        shares = ", ".join(f"{100 * np.mean(np.array(off) <= bound):.1f} % within {bound:g} m" for bound in WITHIN)
        yield f"{len(off):,} panoramas of known position: {shares}; median {np.median(off):.1f} m"
    turned = [
        answer.degrees_off
        for answer in answers
        if answer.degrees_off is not None and answer.metres_off is not None and answer.metres_off <= WITHIN[-1]
    ]
    if turned:
        share = 100 * np.mean(np.array(turned) <= HEADING_DEGREES)
        yield (
            f"headings of the {len(turned):,} within {WITHIN[-1]:g} m: median {np.median(turned):.1f} degrees off, {share:.1f} "
            f"% within {HEADING_DEGREES:g} degrees"
        )


def _asked(args):
    """The Index, the Panoramas and the QueryConfig that flags name."""
    if args.heading is not None and args.unknown_heading:
        raise UserError("--heading and --unknown_heading contradict each other; leave one out")
    config = QueryConfig(**{name: value for name, value in vars(args).items() if name in QueryConfig.__dataclass_fields__})
    panoramas = []
    for path in args.panoramas:
        if path.lower().endswith(".csv"):
            listed = read_located_files(path, needs_positions=False)
            headings = np.full(len(listed.paths), np.nan) if listed.headings is None else listed.headings
            for row, each in enumerate(listed.paths):
                heading = None if np.isnan(headings[row]) else float(headings[row])
                position = None if listed.positions is None else tuple(listed.positions[row].tolist())
                panoramas.append((each, heading, position))
        else:
            panoramas.append((path, None, None))
    for path, _, _ in panoramas:
        if not os.path.isfile(path):
            raise UserError(f"{shortened(path)}: no such panorama; name equirectangular images, or CSV lists of them")
    index = Index(args.index)
    if args.checkpoint is not None:
        index.check_weights(args.checkpoint)
    return index, [panorama_of(path, config, heading, position) for path, heading, position in panoramas], config


def _settings(config):
    return {name: getattr(config, name) for name in QueryConfig.__dataclass_fields__}
