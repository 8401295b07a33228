"""Flower grids on which many outlets run on one machine; `[simulation] grid` names one.

Example:
    >>> GRIDS.names
    ('local', 'ray')
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from presspool.common.base.registry import Registry

if TYPE_CHECKING:
    from presspool.simulations.grids.simulation_grid import SimulationGrid

GRIDS: Registry[type[SimulationGrid]] = Registry(
    "grid",
    {
        "local": "presspool.simulations.grids.local_grid:LocalGrid",
        "ray": "presspool.simulations.grids.ray_grid:RayGrid",
    },
)
