"""Tables of recalls, and the figures that were published."""
