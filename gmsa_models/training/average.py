"""The average of the weights of a run over its steps."""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

__all__ = ["exponential_average"]


def exponential_average(module: nn.Module, decay: float) -> AveragedModel:
    """An exponential average that starts from the module's weights as they are."""
    average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay))
    average.n_averaged += 1  # else the first update would replace them
    return average
