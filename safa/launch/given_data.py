"""The data that a script was given: folders, dataset, pairs, and what is said about them before anything is computed."""

import dataclasses

from safa.datasets.checks import check_lists, outdated
from safa.datasets.dataset import POLAR
from safa.datasets.file_checks import check_files
from safa.datasets.preparation import polar_maps_are_stretched
from safa.runtime.cluster import say
from safa.runtime.command_line import Checked, add_settings, matching, setting
from safa.runtime.errors import UserError

OWN_FLAGS = "act_data", "labels"  # of `Folders`, which only some datasets take
_folder_name = matching(r"[^\0]+", "a folder's name")
_run_name = matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}", "up to 60 letters, digits, '.', '_' and '-', a letter or digit first")


@dataclasses.dataclass(frozen=True)
class Folders(Checked):
    """Where the data of a run lie, and where its files go."""

    data_dir: str = setting("Data", "folder of the datasets and prepared files", _folder_name, metavar="DIR")
    prepared_dir: str | None = setting(
        None, "folder of the prepared files, if the dataset's is read-only (default: --data_dir)", _folder_name, metavar="DIR"
    )
    model_dir: str = setting("Model", "folder of the trained networks", _folder_name, metavar="DIR")
    result_dir: str = setting("Result", "folder of the results", _folder_name, metavar="DIR")
    act_data: str | None = setting(
        None, "ACT_data.mat (default: looked for in the dataset's folder, --data_dir, and OriNet_CVACT/)", metavar="FILE.mat"
    )
    labels: str | None = setting(
        None, "VIGOR's lists: published or SliceMatch's (default: the first there)", choices=("splits", "splits__corrected")
    )
    skip_missing: bool = setting(False, "leave out pairs whose files do not exist")
    run: str | None = setting(
        None,
        "name of the run, for variants beside each other: its folder and result files end in _NAME (default: no name)",
        _run_name,
        metavar="NAME",
    )


def add_run_folders(parser, dataset_class):
    """Add the flags of `Folders` that a class of datasets takes."""
    others = [name for name in OWN_FLAGS if name not in dataset_class.own_flags]
    add_settings(parser, Folders, [field.name for field in dataclasses.fields(Folders) if field.name not in others])
    parser.set_defaults(**dict.fromkeys(others))


def given_dataset(dataset_class, folders):
    """The Dataset in settings.Folders. Raises UserError for flags of other datasets."""
    given = {name: value for name in OWN_FLAGS if (value := getattr(folders, name)) is not None}
    for name in given:
        if name not in dataset_class.own_flags:
            raise UserError(f"--{name}: {dataset_class.name} has none; leave it out")
    return dataset_class(folders.data_dir, folders.prepared_dir, **given)


def checked_pairs(dataset, split, network, folders):
    """The Pairs of a split whose files are there and have the right sizes, for a NetworkConfig and settings.Folders."""
    if network.reference == POLAR and dataset.polar_dir is None:
        raise UserError(f"--polar 1: {dataset.name} has no polar maps; use --polar 0")
    shapes = network.sat_shape, network.grd_shape
    pairs, note = check_files(dataset.pairs(split, network.reference), shapes, folders.skip_missing)
    say(note)
    return pairs


def findings_of(splits):
    """Lines that say what check_data.py would, as far as nothing has to be decoded, of {split: Pairs} of one dataset."""
    pairs = next(iter(splits.values()))
    dataset, lines = pairs.dataset, []
    if pairs.reference == POLAR and not polar_maps_are_stretched(dataset.polar_dir):
        lines.append(f"{dataset.polar_dir}: polar maps without the min-max stretch, unlike the paper's")
    findings = check_lists(splits) + [finding for pairs in splits.values() for finding in outdated(pairs)]
    lines += [f"{dataset.name} {finding.split}: {finding.count:,} {finding.text}" for finding in findings]
    if any(finding.problem for finding in findings):
        lines.append(f"check_data.py --dataset {dataset.name.lower()} says more")
    return lines
