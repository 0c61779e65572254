"""The flags of localize.py, and its first command: build an index."""

import dataclasses

import numpy as np

from safa.datasets.registry import DATASETS, dataset_in
from safa.loading import found_network, load_network
from safa.localization.building import IndexConfig, TileComputer, build_index, built_lines
from safa.localization.coordinates import length
from safa.localization.index_files import DescriptorRecipe, earlier_manifest
from safa.localization.open_tiles import open_tile_source
from safa.localization.query_command import add_calibrate, add_query, calibrate, query
from safa.localization.tile_source import Cut
from safa.runtime.backend import importing_tensorflow
from safa.runtime.cluster import say
from safa.runtime.command_line import Checked, Parser, add_settings, at_least, parsed, setting
from safa.runtime.errors import UserError, reported, shortened
from safa.settings import RunConfig, TrainingConfig, add_network, given_settings

SPACING = 16  # tiles are cut this many times as dense as they are large: networks tolerate few metres (docs/localisation.md)
TILE_PIXELS = 750
OTHER_SIZE = 0.1  # share by which a tile's ground size may differ from training's without a warning
WRONG_SIZE = 2.0  # factor that is refused


@dataclasses.dataclass(frozen=True)
class BuildConfig(Checked):
    """How tiles are read and cut, and what the network expects; None: as it was trained."""

    tile_metres: float | None = length(
        None,
        "ground size of the tiles of the network's training (default: its dataset's: CVUSA 175, CVACT 146; toy towns' are 80)",
        0.01,
    )
    spacing: float | None = length(
        None, f"distance between the centres of tiles that are cut (default: --tile_metres / {SPACING})", 0.01
    )
    tile_pixels: int | None = setting(
        None,
        f"side of tiles that are cut (default: the training dataset's, CVUSA 750, CVACT 1200; else {TILE_PIXELS})",
        at_least(int, 32, 4096),
        metavar="PIXELS",
    )
    zoom: int | None = setting(
        None, "zoom of the Web Mercator tiles to cut from (default: the deepest)", at_least(int, 0, 24), metavar="Z"
    )
    tms: bool = setting(False, "Web Mercator tiles are counted from the south, as TMS has them")
    epsg: int | None = setting(
        None, "number of the reference system of rasters that do not name theirs", at_least(int, 1024, 32767), metavar="CODE"
    )
    skip_missing: bool = setting(False, "leave out listed tiles without a file, and Web Mercator tiles that cannot be read")
    no_stretch: bool = setting(False, "the network was trained on polar maps without the paper's min-max stretch")
    input_vertical_fov: float | None = setting(
        None,
        "degrees from top to bottom that the training panoramas show (default: the training dataset's: CVUSA 65.5, CVACT 90)",
        at_least(float, 1, 180),
        metavar="DEGREES",
    )
    batch_size: int = setting(32, "tiles computed at a time", at_least(int, 1), metavar="TILES")


@reported()
def launch_localization(description):
    """Parse the flags of localize.py and do what they ask."""
    parser = Parser(description)
    steps = parser.add_subparsers(dest="step", required=True, metavar="{build,query,calibrate}")
    _add_build(steps.add_parser("build", help="make an index of aerial tiles", description=_build.__doc__))
    add_query(steps.add_parser("query", help="find where panoramas were taken", description=query.__doc__))
    add_calibrate(steps.add_parser("calibrate", help="learn how sure answers are", description=calibrate.__doc__))
    args = parser.parse_args()
    {"build": _build, "query": query, "calibrate": calibrate}[args.step](args)


def _add_build(parser):
    parser.add_argument("index", metavar="INDEX", help="folder of the index")
    parser.add_argument(
        "--tiles",
        nargs="+",
        required=True,
        metavar="SOURCE",
        help="a CSV list (path, and latitude, longitude or easting, northing, epsg; tile_metres if known); GeoTIFFs, MBTiles "
        "or whatever GDAL opens; or a folder of these or of Web Mercator tiles (zoom/x/y.png)",
    )
    parser.add_argument("--checkpoint", required=True, metavar="PATH", help="network's weights: ours, the authors' or Keras's")
    tiles = parser.add_argument_group("tiles")
    tiles.add_argument(
        "--region",
        type=float,
        nargs=4,
        metavar=("WEST", "SOUTH", "EAST", "NORTH"),
        help="degrees in which the centres of cut tiles lie (default: all of the imagery)",
    )
    add_settings(tiles, BuildConfig)
    add_settings(parser.add_argument_group("descriptors"), IndexConfig)
    add_settings(parser, RunConfig, only=["devices"])
    add_settings(parser, TrainingConfig, only=["precision"])
    add_network(parser)


def _build(args):
    """Compute descriptors of geo-tagged aerial tiles and keep them in an index. The same command goes on after a stop."""
    earlier = earlier_manifest(args.index)
    network, manifest = found_network(args.checkpoint, given_settings(args))
    if manifest is not None and manifest.data.get("stretched_polar_maps") is args.no_stretch:
        made, change = ("with", "leave it out") if args.no_stretch else ("without", "add it")
        raise UserError(f"--no_stretch: {args.checkpoint} was trained on polar maps {made} the min-max stretch; {change}")
    trained_on = dataset_in(args.checkpoint) if manifest is None else manifest.dataset
    dataset = next((kind for kind in DATASETS.values() if kind.name == trained_on), None)
    config = _as_trained(parsed(BuildConfig, args), dataset, args.checkpoint)
    cut = Cut(config.tile_metres, config.spacing, config.tile_pixels, args.region)
    imagery = config.zoom, config.tms, config.skip_missing, config.epsg, earlier and earlier.source
    source = open_tile_source(args.tiles, cut, *imagery)
    record, grid = source.record, source.record.cut and source.record.cut.grid
    used = {"zoom": record.zoom, "tms": record.tms, "epsg": record.epsg, "tile_pixels": record.cut, "spacing": grid}
    used["skip_missing"] = None if record.kind == "rasters" else True
    given = {name for name, value in vars(args).items() if value is not None and value is not False}
    if needless := [f"--{name}" for name, value in used.items() if value is None and name in given]:
        raise UserError(f"{', '.join(needless)}: the tiles of {shortened(args.tiles[0])} take no such flag; leave it out")
    if args.no_stretch and not network.polar:
        raise UserError("--no_stretch: of polar maps, and this network takes aerial tiles; leave it out")
    say(source.extent, *source.notes, _size_warning(source, cut.metres))
    with importing_tensorflow():
        from safa.runtime.backend import explain_tensorflow_errors
        from safa.runtime.distribution import Distribution
    distribution = Distribution(args.devices, args.precision)
    if distribution.has_others:
        raise UserError("TF_CONFIG: an index is built by one process; unset it")
    say(*distribution.notes)
    with explain_tensorflow_errors(distribution, "a smaller --batch_size"):
        loaded = load_network(args.checkpoint, network, args.precision, distribution)
        say(f"checkpoint: {loaded.path}, {network}", loaded.note)
        stretch, metres, fov = not config.no_stretch, config.tile_metres, config.input_vertical_fov
        recipe = DescriptorRecipe(network, loaded.digest, args.precision, trained_on, stretch, metres, fov)
        computer = TileComputer(recipe, loaded.model, distribution, config.batch_size)
        built, note = build_index(args.index, source, computer, parsed(IndexConfig, args))
    say(note, *built_lines(args.index, built))


def _as_trained(config, dataset, checkpoint):
    """A BuildConfig with a value for all that flags left to the training on a class of Dataset; None: an unknown one."""
    known = (None, None, TILE_PIXELS) if dataset is None else (dataset.tile_metres, dataset.vertical_fov, dataset.tile_size[0])
    for name, size in zip(("tile_metres", "input_vertical_fov", "tile_pixels"), known, strict=True):
        if getattr(config, name) is None:
            if size is None:
                raise UserError(f"--{name}: {checkpoint} does not say which dataset it was trained on; name the value")
            config = dataclasses.replace(config, **{name: size})
    return config if config.spacing else dataclasses.replace(config, spacing=config.tile_metres / SPACING)


def _size_warning(source, metres):
    """A warning of tiles that show another ground size than the network expects, or None; UserError beyond WRONG_SIZE."""
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
    if count := np.count_nonzero(np.abs(ratio - 1) > OTHER_SIZE):
        size = f"another ground size than the {metres:g} m of the network's training, {shown}"
        return f"warning: {count:,} tiles show {size}; expect fewer right answers"
    return None
