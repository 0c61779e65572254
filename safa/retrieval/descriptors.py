"""Descriptors of all images of a branch, computed on all devices together."""

import time

import numpy as np
import tensorflow as tf

from input_data import image_batches
from safa.retrieval.resumable_rows import ResumableRows
from safa.runtime.cluster import say
from safa.runtime.distribution import gather_rows
from safa.runtime.errors import UserError
from safa.runtime.progress import ProgressBar

BRANCHES = {"sat": "satellite", "grd": "ground"}  # of a network, and how people call them


class DescriptorExtractor:
    """Computes descriptors with the two branches of a network. Make it once: each branch is then traced once.

    Args:
        network: spatial_net.Network, made in the distribution's scope.
        distribution: runtime.distribution.Distribution.

    Attributes:
        dimension: D, values of a descriptor.
    """

    def __init__(self, network, distribution):
        self.distribution = distribution
        self.dimension = network.sat.dimension

        def computing(branch):
            return distribution.traced(lambda images: gather_rows(branch(images, training=False)))

        self._forward = {"sat": computing(network.sat), "grd": computing(network.grd)}

    def pairs(self, images, batch_size, title):
        """Descriptors of PairImages: (N, D) float32 of the references and (Q, D) of the queries, in the chief's process.

        Other arguments and errors as of `fill`.
        """
        found = []
        for branch in BRANCHES:
            of_branch = getattr(images, branch)
            rows = ResumableRows((len(of_branch.paths), self.dimension))
            self.fill(rows, branch, of_branch, batch_size, title)
            found.append(rows.rows)
        return found

    def fill(self, rows, branch, images, batch_size, title, turns=(0,)):
        """Compute the descriptors that `rows` lacks; to be called by all processes of a run.

        Args:
            rows: ResumableRows, (N, T * D); other processes than the chief's leave theirs as they are.
            branch: "sat" or "grd".
            images: datasets.pair_images.BranchImages, N, or others with `paths`.
            batch_size: images at a time, of all devices together; rounded up to a multiple of their number.
            title: of the progress bar.
            turns: T numbers of columns by which each image, read once, is turned to the left; it has a descriptor of each.

        Raises:
            UserError: an image cannot be read, or a descriptor is not finite.
        """
        count, replicas, is_chief = len(images.paths), self.distribution.replicas, self.distribution.is_chief
        known = tf.Variable(rows.done)
        self.distribution.share_chiefs_values([known])
        done = int(known.numpy())
        say(rows.note)
        if done:
            what = f"{done * len(turns):,} of {count * len(turns):,} {BRANCHES[branch]} descriptors"
            say(f"{title}: {what} were computed before, from the same weights and images")
        if done == count:
            return
        first, batch_size = done - done % replicas, -(-batch_size // replicas) * replicas
        # The last image fills up a last batch that does not divide evenly.
        order = np.minimum(np.arange(first, -(-count // replicas) * replicas), count - 1)
        batches = image_batches(images, *self.distribution.local_rows(order, batch_size))
        seconds, timed, size = 0.0, 0, None
        bar = ProgressBar(None, f"{title}, {BRANCHES[branch]}", count, "images", done, quiet=not is_chief)
        with rows, bar as progress:
            for start, batch in zip(range(first, count, batch_size), batches, strict=True):
                begin = time.perf_counter()
                turned = (np.roll(batch, -columns, axis=2) if columns else batch for columns in turns)
                found = np.concatenate([self.batch(branch, each) for each in turned], axis=1)[: count - start]
                if len(batch) == size:  # one of another size is traced
                    seconds, timed = seconds + time.perf_counter() - begin, timed + len(batch)
                size = len(batch)
                for wrong in np.flatnonzero(~np.isfinite(found).all(axis=1)):
                    what = f"{images.paths[start + wrong]}: its {BRANCHES[branch]} descriptor is not finite"
                    raise UserError(f"{what}; the network has diverged: use an earlier checkpoint")
                if is_chief:
                    rows.write(start, found, 1000 * seconds / timed if timed else None)
                progress.update(len(found))

    def batch(self, branch, images):
        """Descriptors of this process's images of a batch: (B, H, W, 3) -> (B of all processes, D) float32."""
        return self._forward[branch](self.distribution.spread(images)[1]).numpy()
