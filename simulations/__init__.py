"""Many outlets on one machine: grids, made newsrooms, partitions, experiments."""
