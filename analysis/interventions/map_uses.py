"""Whether a module uses a map elsewhere than in its product with the values, say for a gate.

Every call of torch that is made of the map's numbers is followed; and another map tells it where some are not seen.

An edit of edges changes what the product gives. Where the map goes elsewhere too, it would keep its old numbers there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from analysis.capture.adapter import Inputs
from analysis.capture.followed import SeenSoftmax
from analysis.capture.maps import TokenMaps
from analysis.interventions.map_reach import FollowedNumbers
from analysis.module_pass import NamedCalls, watched_pass
from analysis.module_view import main_tensor

__all__ = ["MapUses"]

MOVED = 1e-6  # of the largest number of the output: rounding; what is computed of the same numbers is the same


class MapUses:
    """Tells of attention calls whether anything but their output reaches what a module returns.

    Args:
        module, inputs: of one clip; see `analysis.inspect_module`.
    """

    def __init__(self, module: nn.Module, inputs: Inputs) -> None:
        self._module, self._inputs = module, inputs
        self._seen = FollowedNumbers(module)
        output = main_tensor(module, watched_pass(module, inputs, self._seen))
        self._output, self._clean = output, output.nan_to_num()
        self._outputs, self._softmaxes = self._seen.outputs, self._seen.of_calls

    def followed_elsewhere(self, name: str) -> str | None:
        """The function by which a call's map goes elsewhere, and on to what the module returns; None: none was seen.

        Args:
            name: of the call.
        """
        return self._seen.elsewhere(name, self._output)

    def moved_elsewhere(self, names: Collection[str]) -> float:
        """By how much what the module returns moves when some calls' maps are others, but what they return is not.

        Args:
            names: of the calls.

        Returns:
            In units of the largest magnitude of what it returns, or of 1 where all are smaller; 0 up to rounding, as
            where the map is used in the product alone.
        """
        changed = {number for name in names for number in self._softmaxes.get(name, ())}
        outputs = {name: self._outputs[name] for name in names if name in self._outputs}
        output = watched_pass(self._module, self._inputs, _OtherMaps(self._module, outputs, changed))
        output = main_tensor(self._module, output).nan_to_num()
        moved = float((output - self._clean).abs().amax() / max(1.0, float(self._clean.abs().amax())))
        return 0.0 if moved <= MOVED else moved


class _OtherMaps(NamedCalls):
    """Gives the module other numbers in place of some maps, and what their calls returned before.

    Args:
        module: see `MapUses`.
        outputs: name of a call -> what it returned.
        changed: numbers of the softmaxes whose result is another.
    """

    def __init__(self, module: nn.Module, outputs: Mapping[str, Tensor], changed: Collection[int]) -> None:
        super().__init__(module)
        self._outputs, self._changed = outputs, changed

    def softmax_made(self, softmax: SeenSoftmax, result: Tensor) -> None:
        """Change it if it is one of these."""
        if len(self.softmaxes.softmaxes) - 1 in self._changed:
            _change(result, softmax.logarithm)

    def returned(self, name: str, kind: str, result: Any, maps: Callable[[], TokenMaps]) -> None:
        """Write what it returned before, and change the map that a fused call returns beside it."""
        if name not in self._outputs:
            return
        output, *others = result if isinstance(result, tuple) else (result,)
        output.copy_(self._outputs[name])
        for each in others:
            if isinstance(each, Tensor) and each.is_floating_point():
                _change(each, logarithm=False)


def _change(values: Tensor, logarithm: bool) -> None:
    """Other weights: half of them 0, the rest smaller; smaller logarithms."""
    generator = torch.Generator().manual_seed(3)
    factors = torch.rand(values.shape[-2:], generator=generator).to(values)
    if logarithm:
        values.sub_(1 + factors)
    else:
        values.mul_(factors.masked_fill(factors < 0.5, 0.0))
