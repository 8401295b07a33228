"""What steps cost, by a quicker way through dp_accounting: to the last bit what it says."""

from __future__ import annotations

import dp_accounting as dp
import pytest
from dp_accounting import pld

from presspool.common.contract import privacy_loss


@pytest.mark.parametrize(("sigma", "q"), [(0.8, 0.3), (1.7, 0.01), (0.7, 1.0), (3.396, 1.0)])
def test_each_number_of_steps_costs_what_the_accountant_says(sigma: float, q: float) -> None:
    for steps in (3, 1, 40):
        accountant = pld.PLDAccountant(dp.NeighboringRelation.ADD_OR_REMOVE_ONE)
        event: dp.DpEvent = dp.GaussianDpEvent(sigma)
        if q < 1:
            event = dp.PoissonSampledDpEvent(q, event)
        accountant.compose(event, steps)
        assert privacy_loss.epsilon_of(sigma, q, steps, 1e-5) == accountant.get_epsilon(1e-5)


def test_a_step_is_made_once_for_each_noise_rate_and_grid() -> None:
    made = privacy_loss._sampled_step.cache_info
    privacy_loss.epsilon_of(1.234, 0.2, 5, 1e-5)
    before = made().misses
    privacy_loss.epsilon_of(1.234, 0.2, 6, 1e-5)
    assert made().misses == before
    assert privacy_loss.epsilon_of(1.235, 0.2, 6, 1e-5) < privacy_loss.epsilon_of(
        1.234, 0.2, 6, 1e-5
    )
    privacy_loss.epsilon_of(1.234, 0.2, 6, 1e-5, privacy_loss.COARSE)
    assert made().misses == before + 2
