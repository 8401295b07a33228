"""What whole numbers cost beyond the real Gaussian: a sum of discrete Gaussians is nearly one.

Invariant: bounds on the lattice itself, in nats of Rényi divergence; `docs/pooled-privacy.md`,
proposition 2, proves them.

Example:
    >>> convolution(shares=14, scale=2.0**12)
    0.0
"""

from __future__ import annotations

import math

from presspool.common.base.errors import ContractError


def convolution(*, shares: int, scale: float) -> float:
    """τ: how far a sum of discrete Gaussians is from one of as much variance, at every point.

    |ln P[X₁ + … + X_m = z] − ln P[W = z]| <= τ = 5·Σ_{k=1}^{m−1} exp(−2π²s²·k/(k+1)) for every
    whole z, with Xᵢ of parameter s² and W of m·s².

    Args:
        shares: m, at least 1.
        scale: s, in steps of the grid.

    Raises:
        ContractError: s below 1/2, where nothing is known.

    Source: Kairouz, Liu & Steinke, "The Distributed Discrete Gaussian Mechanism for Federated
    Learning with Secure Aggregation", ICML 2021, section 3 (convolution of discrete Gaussians).
    """
    if scale < 0.5:
        raise ContractError(
            "an outlet's share of the noise on its grid",
            expected="a scale of at least 1/2 a step",
            got=f"{scale:.3g}",
            advice="take a finer grid, or fewer outlets",
        )
    rate = 2 * (math.pi * scale) ** 2
    return 5 * math.fsum(math.exp(-rate * k / (k + 1)) for k in range(1, shares))


def off_by(gap: float, order: int) -> float:
    """What a Rényi cost grows by where both laws are within e^±gap of those it was computed for.

    ∫ PᵅQ¹⁻ᵅ then grows by e^((2α−1)·gap) at most, and the divergence by (2α−1)/(α−1)·gap.
    """
    return (2 * order - 1) / (order - 1) * gap
