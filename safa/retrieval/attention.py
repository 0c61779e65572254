"""What descriptors rest on: the weights of a map's positions, and each position's part of a similarity (section 3.2)."""

import dataclasses

import keras
import numpy as np

from spatial_net import NORM_EPSILON


@dataclasses.dataclass(frozen=True)
class BranchMaps:
    """What a branch computes of n images before it sums over positions."""

    maps: np.ndarray  # (n, h, w, C) float32
    weights: np.ndarray | None  # (n, M, h, w) float32, the position weights of the embeddings; for VGG_gp None

    def contributions(self, others):
        """Each position's part of the similarity with the other branch's descriptors: (n, D) of length 1 -> (n, h, w) float64.

        A similarity is a sum over positions, since a descriptor is: of w * f for SAFA, and of each channel's greatest f
        for VGG_gp. So the parts are exact, and add up to it.
        """
        maps = self.maps.astype(np.float64)
        if self.weights is not None:  # sums: the descriptors before they are scaled to length 1
            sums = np.einsum("nhwc,nmhw->nmc", maps, self.weights)
            parts = np.einsum("nhwc,nmc,nmhw->nhw", maps, others.reshape(sums.shape), self.weights, optimize=True)
        else:
            sums = maps.max(axis=(1, 2))
            flat = maps.reshape(len(maps), -1, maps.shape[-1])
            is_greatest = flat.argmax(axis=1)[:, None] == np.arange(flat.shape[1])[:, None]  # (n, h * w, C): one a channel
            parts = np.einsum("npc,nc,nc->np", is_greatest, sums, others).reshape(maps.shape[:-1])
        lengths = np.sqrt(np.maximum((sums.reshape(len(maps), -1) ** 2).sum(axis=1), NORM_EPSILON))
        return parts / lengths[:, None, None]


def branch_maps(branch, images):
    """The BranchMaps of (n, H, W, 3) images, BGR, 0..255, by a spatial_net.Branch of SAFA_M or VGG_gp."""
    maps, weights = branch.backbone(keras.ops.cast(images, "float32"), training=False), None
    if isinstance(branch.aggregation, keras.Sequential):
        *pools, spatial = branch.aggregation.layers
        for pool in pools:
            maps = pool(maps)
        maps = keras.ops.cast(maps, "float32")
        weights = keras.ops.convert_to_numpy(spatial.position_weights(maps)).transpose(0, 2, 1)
        weights = weights.reshape(len(maps), -1, *maps.shape[1:3])
    return BranchMaps(keras.ops.convert_to_numpy(keras.ops.cast(maps, "float32")), weights)
