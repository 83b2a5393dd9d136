"""S_i and the profile over lag, by hand."""

import numpy as np
import pytest
import references.sensitivity as slow
import torch

from analysis.sensitivity.norms import lag_profile, local_sensitivity
from gmsa_models.errors import ArgumentError
from gmsa_models.masks import BlockDiagonal, Toeplitz, neighbourhood_mask
from tests.analysis.sensitivity.test_sensitivity import MASKS


class TestLocalSensitivity:
    def test_by_hand(self):
        """Frame 0: inside 4 and 2, mean 3; outside 1: 3 / (3 + 1). Frame 2: inside 6; outside 0 and 2, mean 1."""
        norms = torch.tensor([[4.0, 2.0, 1.0], [1.0, 1.0, 1.0], [0.0, 2.0, 6.0]])
        inside = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
        torch.testing.assert_close(local_sensitivity(norms, inside), torch.tensor([0.75, 0.5, 6 / 7]))

    @pytest.mark.parametrize("mask", MASKS, ids=str)
    def test_equals_the_slow_definition_with_padding(self, mask):
        norms = torch.rand(2, 13, 13, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        norms[1, 11:], norms[1, :, 11:] = torch.nan, torch.nan
        actual = local_sensitivity(norms, mask)
        inside = neighbourhood_mask(mask, 13).numpy()
        for row in range(2):
            np.testing.assert_allclose(actual[row], slow.local_sensitivity(norms[row].numpy(), inside), rtol=1e-12)
        assert actual[1, 11:].isnan().all()

    def test_everything_nothing_and_no_gradient_are_nan(self):
        norms = torch.ones(3, 3)
        norms[2] = 0.0
        inside = torch.tensor([[True, True, True], [False, False, False], [True, False, False]])
        assert local_sensitivity(norms, inside).isnan().all()
        # Of a padded clip, the whole of what is real is everything.
        padded = torch.full((3, 3), torch.nan)
        padded[:2, :2] = 1.0
        assert local_sensitivity(padded, BlockDiagonal(2)).isnan().all()

    def test_equal_gradients_are_a_half_and_a_common_factor_is_nothing(self):
        norms = torch.rand(7, 7, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(local_sensitivity(torch.ones(7, 7), Toeplitz(3)), torch.full((7,), 0.5))
        torch.testing.assert_close(local_sensitivity(7.0 * norms, Toeplitz(3)), local_sensitivity(norms, Toeplitz(3)))

    def test_wrong_sizes_are_named(self):
        with pytest.raises(ArgumentError, match=r"shape \(2, 2\); expected \(3, 3\)"):
            local_sensitivity(torch.ones(3, 3), torch.ones(2, 2, dtype=torch.bool))
        with pytest.raises(ArgumentError, match=r"2 query and 3 key frames"):
            local_sensitivity(torch.ones(2, 3), Toeplitz(3))


class TestLagProfile:
    def test_by_hand(self):
        """Lag 0: 1 and 4; lag 1: 2 and 3; of 10 in all."""
        profile = lag_profile(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), frame_seconds=2.0)
        torch.testing.assert_close(profile.seconds, torch.tensor([0.0, 2.0]))
        torch.testing.assert_close(profile.mean, torch.tensor([2.5, 2.5]))
        torch.testing.assert_close(profile.mass, torch.tensor([0.5, 0.5]))

    def test_equals_the_slow_definition_head_by_head_with_padding(self):
        matrix = torch.rand(3, 7, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        matrix[2, 5:], matrix[2, :, 5:] = torch.nan, torch.nan
        profile = lag_profile(matrix)
        for head in range(3):
            mean, mass = slow.mean_and_mass_by_lag(matrix[head].numpy())
            np.testing.assert_allclose(profile.mean[head], mean, rtol=1e-12)
            np.testing.assert_allclose(profile.mass[head], mass, rtol=1e-12)
        assert profile.mean[2, 5:].isnan().all()

    def test_turning_the_map_over_changes_nothing_and_mass_is_one(self):
        matrix = torch.rand(7, 7, generator=torch.Generator().manual_seed(0))
        profile = lag_profile(matrix)
        torch.testing.assert_close(profile.mass.sum(), torch.tensor(1.0))
        torch.testing.assert_close(lag_profile(matrix.flip(0, 1)).mean, profile.mean)
        torch.testing.assert_close(lag_profile(matrix.T).mean, profile.mean)

    def test_errors(self):
        with pytest.raises(ArgumentError, match=r"frame_seconds is 0.0"):
            lag_profile(torch.ones(3, 3), 0.0)
        with pytest.raises(ArgumentError, match=r"2 query and 3 key"):
            lag_profile(torch.ones(2, 3))
