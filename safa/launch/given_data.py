"""The data that a script was given: the dataset, its pairs, and what is said about them before anything is computed."""

from safa.datasets.checks import check_lists, outdated
from safa.datasets.dataset import POLAR
from safa.datasets.file_checks import check_files, resolve_case
from safa.datasets.preparation import polar_maps_are_stretched
from safa.runtime.cluster import is_chief


def say(*lines):
    """Print those lines that are not None, in the chief's process."""
    if is_chief():
        for line in lines:
            if line is not None:
                print(line, flush=True)


def given_dataset(dataset_class, folders):
    """The Dataset in settings.Folders."""
    act_data = {"act_data": folders.act_data} if dataset_class.has_act_data else {}
    return dataset_class(folders.data_dir, folders.prepared_dir, **act_data)


def checked_pairs(dataset, split, network, folders):
    """The Pairs of a split whose files are there and have the right sizes, for a NetworkConfig and settings.Folders."""
    shapes = network.sat_shape, network.grd_shape
    pairs, note = check_files(dataset.pairs(split, network.reference), shapes, folders.skip_missing)
    say(note)
    return pairs


def findings_of(splits):
    """Lines that say what check_data.py would, as far as nothing has to be decoded.

    Args:
        splits: {name: Pairs} of one dataset.
    """
    pairs = next(iter(splits.values()))
    dataset, lines = pairs.dataset, []
    if pairs.reference == POLAR and not polar_maps_are_stretched(dataset.polar_dir):
        lines.append(f"{dataset.polar_dir}: polar maps without the min-max stretch, unlike the paper's")
    findings = check_lists(dataset, splits)
    for split, pairs in splits.items():
        if pairs.reference == POLAR:
            findings += outdated(split, list(zip(resolve_case(pairs.tile_paths), pairs.sat_paths, strict=True)))
    lines += [f"{dataset.name} {finding.split}: {finding.count:,} {finding.text}" for finding in findings]
    if any(finding.problem for finding in findings):
        lines.append(f"check_data.py --dataset {dataset.name.lower()} says more")
    return lines
