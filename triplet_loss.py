"""The weighted soft-margin triplet loss over all pairs of a batch (paper, section 3.3; Hu et al. 2018)."""

from keras import ops

LOSS_WEIGHT = 10.0  # the paper's alpha


def triplet_loss(sat, grd, negatives=None, batch_hard_count=0):
    """Mean of log(1 + exp(10 * (positive distance - negative distance))), both views as the anchor.

    As published, the diagonal (and what `negatives` masks) stays in the sums with its constant log 2, while the
    divisor counts B(B-1) pairs, or the pairs that are not masked. Unlike there, a batch in which all are masked has
    loss 0 instead of an infinite one, and masked entries are never among the hardest.

    Args:
        sat, grd: (B, D) descriptors of length 1, computed with in float32; row i of both is one place.
        negatives: (B, B) mask of any dtype, 1 where satellite i is a negative of ground j; None: all but the diagonal.
        batch_hard_count: 0 < k <= B takes the mean over the k hardest entries of each row and column instead, those on the
            diagonal among them, as published; with `negatives` over the k hardest that are not masked, or fewer where
            fewer are left.

    Returns:
        () float32; 0 for a single pair, without `batch_hard_count`.

    Raises:
        ValueError: shapes do not fit.
    """
    sat, grd = ops.cast(sat, "float32"), ops.cast(grd, "float32")
    negatives = None if negatives is None else ops.cast(negatives, "float32")
    sizes = set() if negatives is None else {*sat.shape[:1], *negatives.shape} - {None}  # None: not known yet
    wrong = negatives is not None and (len(negatives.shape) != 2 or len(sizes) > 1)
    if len(sat.shape) != 2 or sat.shape != grd.shape or wrong:  # they would be broadcast
        raise ValueError(f"sat and grd are both (B, D), not {sat.shape} and {grd.shape}; negatives are (B, B)")
    distances = 2.0 - 2.0 * ops.matmul(sat, ops.transpose(grd))
    positive = ops.diagonal(distances)
    ground_to_satellite = positive[None, :] - distances
    satellite_to_ground = positive[:, None] - distances
    if negatives is not None:
        ground_to_satellite *= negatives
        satellite_to_ground *= negatives

    def soft_margin(differences, negatives):
        losses = ops.softplus(LOSS_WEIGHT * differences)  # log(1 + exp(x)) that does not overflow
        if batch_hard_count:
            if negatives is None:
                return ops.mean(ops.top_k(losses, batch_hard_count)[0])
            hardest = ops.top_k(losses * negatives, batch_hard_count)[0]  # every loss is above 0
            return _quotient(ops.sum(hardest), ops.sum(ops.cast(hardest > 0, "float32")))
        batch = ops.cast(ops.shape(sat)[0], "float32")
        return _quotient(ops.sum(losses), batch * (batch - 1.0) if negatives is None else ops.sum(negatives))

    return (
        soft_margin(ops.transpose(ground_to_satellite), None if negatives is None else ops.transpose(negatives))
        + soft_margin(satellite_to_ground, negatives)
    ) / 2.0


def _quotient(total, count):
    return ops.where(count > 0, total / ops.maximum(count, 1.0), 0.0)
