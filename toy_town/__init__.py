"""A procedural town: `materials` it is made of, a `scene` as a height field, its `layout`, and `views` of it.

Everything follows from a seed. Positions are integer (column, row) cells of one lattice with `CELL` metres between
cells, columns to the east and rows to the south; azimuths are degrees clockwise from north.
"""
