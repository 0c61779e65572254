"""Testing a network: descriptors of all pairs, their ranks, and the recall table (paper, section 4.1)."""

from runtime import backend  # noqa: F401
from runtime.distribution import gather_rows
from runtime.errors import UserError
from runtime.files import write_whole

import io
import json
import time

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from datasets.positions import within
from datasets.registry import DATASETS
from input_data import batches
from recall import one_percent, recall_curve, reported_recalls
from retrieval.search import search

# Percent, R@1, R@5, R@10, R@1%: the paper's table 1 and 2, the others as later papers quote them.
PUBLISHED = {
    ("CVUSA", "SAFA_8", 1): (89.84, 96.93, 98.14, 99.64),
    ("CVACT", "SAFA_8", 1): (81.03, 92.80, 94.84, 98.17),
    ("CVUSA", "SAFA_8", 0): (81.15, 94.23, 96.85, 99.49),
    ("CVACT", "SAFA_8", 0): (78.28, 91.60, 93.79, 98.15),
    ("CVACT_test", "SAFA_8", 1): (55.50, 79.94, 85.08, 94.49),
}


class Describer:
    """Computes descriptors, all devices together: `Describer(network, distribution)(pairs, ...)`.

    Made once, so that the network is traced once.

    Args:
        network: keras.Model of `spatial_net.network`, made in the distribution's scope.
        distribution: distribution.Distribution.
    """

    def __init__(self, network, distribution):
        self.distribution = distribution

        def replica_forward(sat, grd):
            return [gather_rows(each) for each in network([sat, grd], training=False)]

        @tf.function(reduce_retracing=True)
        def forward(sat, grd):
            described = distribution.strategy.run(replica_forward, (sat, grd))
            return [distribution.strategy.experimental_local_results(each)[0] for each in described]

        self._forward = forward

    def __call__(self, pairs, config, batch_size, title, cache=None):
        """Descriptors of all pairs.

        Args:
            pairs: dataset.Pairs.
            config: configuration.NetworkConfig.
            batch_size: pairs at a time, of all devices together; rounded up to a multiple of their number.
            title: of the progress bar.
            cache: see `input_data.batches`.

        Returns:
            sat, grd: (N, D) float32 each.

        Raises:
            UserError: an image cannot be read, or a descriptor is not finite.
        """
        replicas = self.distribution.replicas
        batch_size = -(-batch_size // replicas) * replicas
        # The last pair fills up a last batch that does not divide evenly.
        order = np.minimum(np.arange(-(-len(pairs) // replicas) * replicas), len(pairs) - 1)
        reader = batches(
            pairs,
            self.distribution.local_rows(order, batch_size),
            self.distribution.local_batch_size(batch_size),
            config.sat_shape,
            config.grd_shape,
            cache=cache,
        )
        sat_descriptors = grd_descriptors = None
        with tqdm(
            total=len(pairs), desc=title, unit="pair", leave=False, disable=None if self.distribution.is_chief else True
        ) as progress:
            for start, (sat, grd, _) in zip(range(0, len(order), batch_size), reader, strict=True):
                described = [each.numpy() for each in self._forward(*self.distribution.spread(sat, grd)[1:])]
                if sat_descriptors is None:
                    sat_descriptors, grd_descriptors = (np.empty((len(pairs), each.shape[1]), np.float32) for each in described)
                rows = order[start : start + batch_size]
                sat_descriptors[rows], grd_descriptors[rows] = described
                progress.update(len(np.unique(rows)))
        for view, paths, descriptors in (
            ("satellite", pairs.sat_paths, sat_descriptors),
            ("ground", pairs.grd_paths, grd_descriptors),
        ):
            wrong = np.flatnonzero(~np.isfinite(descriptors).all(axis=1))
            if wrong.size:
                raise UserError(
                    f"{wrong.size:,} of {len(pairs):,} {view} descriptors are not finite, such as that of "
                    f"{paths[wrong[0]]}; the network has diverged: use an earlier checkpoint"
                )
        return sat_descriptors, grd_descriptors


def evaluate(sat, grd, near=None):
    """Recalls of descriptors.

    Args:
        sat, grd: (N, D) float32 descriptors; row i of both is one place.
        near: of `positions.within`, if places near the truth are to count as hits too.

    Returns:
        {"queries": N, "references": N, "recall": {"1", "5", "10", "1%"}, "recall_curve": [recall@1, ..., recall@1%],
        "tied_queries": number of queries whose truth shares its distance with another reference,
        "pessimistic_recall": as "recall", with every tied reference before the truth,
        "recall_within_5m": with `near`, as "recall", where any of these references is true}. Recalls are fractions.
    """
    found = search(sat, grd, np.arange(len(grd)), near)
    pessimistic = found.closer + found.tied
    result = {
        "queries": len(grd),
        "references": len(sat),
        "recall": reported_recalls(found.closer, len(sat)),
        "recall_curve": recall_curve(found.closer, one_percent(len(sat))).tolist(),
        "tied_queries": int(np.count_nonzero(found.tied)),
        "pessimistic_recall": reported_recalls(pessimistic, len(sat)),
    }
    if near is not None:
        result["recall_within_5m"] = reported_recalls(found.near_closer, len(sat))
    return result


def recall_line(recalls):
    """Recalls in percent, for a person: "R@1 89.84  R@5 96.93  R@10 98.14  R@1% 99.64"."""
    return "  ".join(f"R@{k} {100 * value:.2f}" for k, value in recalls.items())


def tie_warning(result):
    """One line that says what ties do to the recall, or None without ties."""
    if not result["tied_queries"]:
        return None
    return (
        f"ties: {result['tied_queries']:,} of {result['queries']:,} queries have other references as close as the true "
        "one. Recall counts only closer ones; the pessimistic recall counts these too. If the two differ much, the "
        "network has collapsed to the same descriptors everywhere"
    )


def recall_table(result, published=None):
    """The recalls as a table, in percent.

    Args:
        result: of `evaluate`.
        published: the paper's four numbers, or None.

    Returns:
        Text of several lines.
    """
    rows = {"recall": [100 * value for value in result["recall"].values()]}
    if result["tied_queries"]:
        rows["pessimistic"] = [100 * value for value in result["pessimistic_recall"].values()]
    if "recall_within_5m" in result:
        rows["within 5 m"] = [100 * value for value in result["recall_within_5m"].values()]
    if published is not None:
        rows["published"] = published
    lines = [f"{'percent':<12}" + "".join(f"{'R@' + k:>9}" for k in result["recall"])]
    lines += [f"{name:<12}" + "".join(f"{value:9.2f}" for value in values) for name, values in rows.items()]
    if result["references"] < 100:
        lines.append(f"R@1% of {result['references']} references is recall@1")
    warning = tie_warning(result)
    return "\n".join(lines + [warning] if warning else lines)


def save_descriptors(path, pairs, sat, grd):
    """Write `ids` (N strings), `sat_descriptors` and `grd_descriptors` ((N, D) float32) to an .npz file."""
    content = io.BytesIO()
    np.savez(content, ids=np.array(pairs.ids), sat_descriptors=sat, grd_descriptors=grd)
    write_whole(path, content.getbuffer())


def test(
    describer, pairs, config, checkpoint, batch_size, json_path, descriptors_path=None, hit_metres=None, precision="float32"
):
    """Describe, search, report: prints the table and writes the JSON file.

    Args:
        describer: Describer.
        pairs: dataset.Pairs.
        config: configuration.NetworkConfig.
        checkpoint: where the weights came from, for the report.
        batch_size: pairs at a time.
        json_path: file for the result.
        descriptors_path: .npz file for the descriptors, or None.
        precision: that the network computes in, for the report.
        hit_metres: of `dataset.Dataset`.

    Returns:
        The result as written; None in the processes of a run that are not its chief.
    """
    begin = time.perf_counter()
    sat, grd = describer(pairs, config, batch_size, f"{pairs.dataset} {pairs.split}")
    if not describer.distribution.is_chief:
        return None
    described = time.perf_counter()
    result = {
        "dataset": pairs.dataset,
        "split": pairs.split,
        "network_type": config.network_type,
        "polar": config.polar,
        "precision": precision,
        "checkpoint": checkpoint,
    }
    result |= evaluate(sat, grd, None if hit_metres is None else within(pairs.utm, hit_metres))
    result["seconds"] = {"descriptors": round(described - begin, 3), "ranks": round(time.perf_counter() - described, 3)}
    if descriptors_path is not None:
        save_descriptors(descriptors_path, pairs, sat, grd)
    write_whole(json_path, json.dumps(result, indent=2).encode())
    published = PUBLISHED.get((pairs.dataset, config.network_type, config.polar)) if config.is_papers else None
    print(f"\n{pairs.dataset} {pairs.split}, {config}: {len(pairs):,} panoramas among {len(pairs):,} aerial images")
    print(recall_table(result, published), flush=True)
    published_count = DATASETS[pairs.dataset.lower()].published_counts[pairs.split]
    if published is not None and len(pairs) != published_count:
        print(f"the published recalls are among {published_count:,} pairs, which these are not", flush=True)
    return result
