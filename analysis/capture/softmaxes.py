"""Attention that a module writes out itself: a softmax, then a product with values. Other softmaxes have no product.

Whatever is made of a softmax is followed: through functions that leave its numbers, through those that make another map
of it (whose names are kept), and through those behind which its axes are not known any more. A product with values that
is understood is recorded; any other function that takes a map together with other numbers is remembered, as nobody
should take it for no attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from analysis.capture.dropouts import (
    RandomNumbers,
    after_dropout,
    after_mask,
    dropout_in_place,
    dropout_probability,
    written_tensor,
)
from analysis.capture.followed import FollowedMap, SeenSoftmax, TensorTable, joined, merged, share_softmaxes, tensors_of
from analysis.capture.intercept import refuse_unreadable
from analysis.capture.logsums import LogSums
from analysis.capture.map_calls import MapCall, before_changed, in_order, is_piece, key_after, reorders, takes_parts
from analysis.capture.operands import operands_of, product_of
from analysis.capture.operations import (
    ADDITIONS,
    BESIDE,
    CUTS,
    DROPOUTS,
    ELEMENTWISE,
    EXPONENTIALS,
    LEAVES,
    LOGARITHMS,
    NO_NUMBERS,
    NOISY,
    OF_SCORES,
    PRODUCTS,
    SAME,
    SOFTMAXES,
    SUMS,
    TRANSPOSES,
    function_name,
)
from analysis.capture.products import Product, Raised, summed_product
from analysis.capture.written import WrittenMaps

__all__ = ["SoftmaxProducts"]

_MULTIPLIED_IN_PLACE = (torch.Tensor.mul_, torch.Tensor.__imul__)


class SoftmaxProducts:
    """Follows every softmax to the product that uses it.

    Attributes:
        softmaxes: those that were seen.

    Args:
        keep_scores: whether what a softmax was taken of is wanted of its map.
    """

    def __init__(self, keep_scores: bool = False) -> None:
        self._keep_scores = keep_scores
        self.softmaxes: list[SeenSoftmax] = []
        self._known = TensorTable[FollowedMap]()
        self._raised = TensorTable[Raised]()
        self._random = RandomNumbers()
        self._written = WrittenMaps()
        self._sums = LogSums()
        self._undropped: Tensor | None = None
        self._has_before = False

    @property
    def following(self) -> bool:
        """Whether there is anything to follow: what was made of a softmax, and lives."""
        return bool(self._known) or bool(self._sums) or bool(self._written)

    def prepare(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Keep the map that a call is about to drop some weights of in place.

        Args:
            func, args, kwargs: of any call of torch, before it is made.
        """
        if not self._known or not args or args[0] not in self._known:
            return
        masked = func in _MULTIPLIED_IN_PLACE and any(each in self._random for each in args[1:])
        dropped = dropout_in_place(func, args, kwargs) and dropout_probability(func, args, kwargs) > 0
        if masked or dropped:
            self._undropped = args[0].detach().clone()

    def see(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, module: str = ""
    ) -> Product | None:
        """Take note of a call; its product with values, if it is one.

        Args:
            func, args, kwargs, result: of any call of torch.
            module: path of the module that makes it.
        """
        if func in SOFTMAXES:
            if isinstance(result, Tensor):
                self._begin(func, args, kwargs, result, module)
                if "out" in kwargs and (known := self._known.get(result)) is not None:
                    self._written.write(result, known, function_name(func))
            return None
        if (axis := self._sums.see(func, args, kwargs, result)) is not None:
            self._follow_softmax(result, axis, module, logarithm=True)
        if not self._known and not self._written:
            return None
        product = self._see_map(func, args, kwargs, result, module)
        if self._has_before:
            self._see_written(func, args, kwargs, result)
        return product

    def _see_map(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, module: str
    ) -> Product | None:
        known = self._known
        tensors = list(tensors_of((*args, *kwargs.values()) if kwargs else args))
        if self._written:
            self._recognise(tensors)
        if not any(each in known for each in tensors):
            self._random.see(func, args, kwargs, result)
            return None
        if func in NO_NUMBERS:
            self._random.see(func, args, kwargs, result)
            return None
        call = MapCall(func, args, kwargs, result, module, tensors)
        product = self._product(call)
        if product is None and not self._is_other_product(call):
            target = written_tensor(func, args, kwargs, result)
            new = target is not None and (target not in known or target in self._written)
            self._follow(call)
            if target is not None and new and target in known:
                self._written.write(target, known[target], call.name)
        return product

    def _recognise(self, tensors: Sequence[Tensor]) -> None:
        """Those that a map was written into through a view are maps too."""
        for each in tensors:
            own = self._known.get(each)
            stored = self._written.known(each) if own is None or own.stored else None
            if stored is not None:
                self._known[each] = stored

    def follow_returned(self, weights: Tensor, mean: bool, function: str, module: str) -> SeenSoftmax:
        """Follow the map that a recorded call returns beside its output.

        Args:
            weights: it, or its mean over heads.
            mean: whether it is that.
            function: which returned it, in whose own product it is already.
            module: path of the module that made the call.
        """
        seen = SeenSoftmax(module, tuple(weights.shape), recorded=True, products=[function])
        self.softmaxes.append(seen)
        self._known[weights] = FollowedMap((seen,), -1, between=("mean",) if mean else ())
        return seen

    def _see_written(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Forget the map before of one that was written into through another tensor of its storage."""
        target = written_tensor(func, args, kwargs, result)
        if target is None:
            return
        storage = target.untyped_storage().data_ptr()
        for tensor, known in self._known.items():
            if known.before is None or tensor is target:
                continue
            own, before = (each.untyped_storage().data_ptr() for each in (tensor, known.before))
            if own != before and storage in (own, before):
                dropped = ("dropout",) if known.dropout > 0 else ()
                between = merged((known.between, dropped, (function_name(func),)))
                self._known[tensor] = replace(known, before=None, scores=None, between=between)

    def _begin(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor, module: str) -> None:
        position, default = SOFTMAXES[func]
        dim = kwargs.get("dim", args[position] if len(args) > position else default)
        if result.ndim == 0 or (result.ndim == 1 and isinstance(args[0], nn.Parameter)):
            return
        if dim is None:  # what torch takes then, with a warning
            dim = 0 if result.ndim in (1, 3) else 1
        scores = args[0].detach().clone() if self._keep_scores and func in OF_SCORES else None
        self._follow_softmax(result, dim, module, func in LOGARITHMS, scores)

    def _follow_softmax(
        self, result: Tensor, dim: int, module: str, logarithm: bool, scores: Tensor | None = None
    ) -> None:
        seen = SeenSoftmax(module, tuple(result.shape), logarithm=logarithm)
        self.softmaxes.append(seen)
        # A row of its own has no axis of queries: what it is multiplied with is named, and no map is made of it.
        key = dim % result.ndim - result.ndim if result.ndim > 1 else None
        self._known[result] = FollowedMap((seen,), key, scores=scores, logarithm=logarithm)

    def _product(self, call: MapCall) -> Product | None:
        """The product of a map with values; what it is made of is recorded then."""
        product: Product | None = None
        operands: Sequence[Tensor] = ()
        if call.func in SUMS and call.args and call.args[0] in self._raised:
            raised = self._raised[call.args[0]]
            product = summed_product(raised, call.args, call.kwargs, call.result)
            maps = [raised.known]
        else:
            operands = operands_of(call)
            maps = [known for each in operands if (known := self._known.get(each)) is not None]
            if maps:
                refuse_unreadable(call.args, {}, f"the product of a softmax in module {call.module!r} ({call.name})")
            if not share_softmaxes(maps) and isinstance(call.result, Tensor):
                product = product_of(call, operands, self._known)
        if product is None:
            return None
        for softmax in (one for known in maps for one in known.softmaxes):
            softmax.recorded = True
            softmax.products.append(call.name)
        if len(maps) == 2:  # the values are made of a map themselves
            key = key_after(call, operands[1], maps[1], call.result, others=True)
            if isinstance(key, int):
                self._change(call, call.result, [(operands[1], maps[1], key)])
        return product

    def _is_other_product(self, call: MapCall) -> bool:
        """Whether it multiplies a map with other numbers, in a way that is not understood."""
        if call.func in LEAVES:
            known = self._known[call.tensors[0]]
            if call.tensors[0].ndim > 2 and not known.logarithm:
                known.use(call.name, call.module)
            return True
        if call.func not in PRODUCTS and call.func is not torch.einsum:
            return False
        maps = [self._known[each] for each in call.tensors if each in self._known]
        others = [each for each in call.tensors if each not in self._known and each.numel() > 1]
        if others and not all(isinstance(each, nn.Parameter) for each in others):
            for known in maps:
                if not known.logarithm:
                    known.use(call.name, call.module)
                    for softmax in known.softmaxes:
                        softmax.products.append(call.name)
        return bool(others)

    def _follow(self, call: MapCall) -> None:
        """What became of a map, where it was not multiplied with values."""
        func, result = call.func, call.result
        if func in ELEMENTWISE and self._raise_product(call):
            return
        source = next(each for each in call.tensors if each in self._known)
        known = self._known[source]
        if known.logarithm:
            if func in EXPONENTIALS:
                self._known[result] = replace(known, logarithm=False)
                return
            if func not in SAME and func not in TRANSPOSES:
                return
        if not isinstance(result, Tensor) or known.key is None:
            self._go_on(call)
        elif result.shape == (*source.shape, 1) and (func in SAME or func is torch.Tensor.__getitem__):
            self._raised[result] = Raised(known, source)
            self._known[result] = replace(known, key=known.key - 1, before=None, scores=None, raised=True)
        elif func in DROPOUTS or func in NOISY or self._random_mask(call) is not None:
            self._drop(call, source, known)
        elif func in SAME and known.key >= -2 and result.shape[known.key :] == source.shape[known.key :]:
            if not source.is_floating_point():
                self._known[result] = known
            elif result is not source:
                before = source if known.before is None else known.before
                spread = before.numel() < result.numel()

                def arrange(each: Tensor) -> Tensor:
                    return each.expand(result.shape) if spread else each.reshape(result.shape)

                self._known[result] = replace(known, before=before).turned(arrange)
                self._has_before |= known.dropout > 0
        elif func in TRANSPOSES and source is call.args[0]:
            self._transpose(call, source, known)
        else:
            self._go_on(call)

    def _raise_product(self, call: MapCall) -> bool:
        """Follow a map with an axis of 1 behind to its elementwise product with values; whether that is all it is."""
        operands = list(tensors_of(call.args))
        raised = [self._with_one_behind(each) for each in operands]
        if len(operands) != 2 or raised.count(None) != 1:
            return False
        own = 0 if raised[0] is not None else 1
        product = raised[own]
        if product is None or product.value is not None or call.result.ndim != operands[own].ndim:
            return False
        self._raised[call.result] = replace(product, value=operands[1 - own])
        known = self._known.get(operands[own])
        if known is not None and not known.raised:
            return False
        uses = product.known.use(call.name, call.module)
        self._known[call.result] = replace(product.known, key=None, before=None, scores=None, uses=uses)
        return True

    def _with_one_behind(self, values: Tensor) -> Raised | None:
        """A map with an axis of 1 behind: raised, or one of a single query that stands behind its keys."""
        known = self._known.get(values)
        if known is None or known.raised or known.key != -2 or values.shape[-1] != 1:
            return self._raised.get(values)
        return Raised(replace(known.turned(lambda each: each.squeeze(-1)), key=-1), values.squeeze(-1))

    def _drop(self, call: MapCall, source: Tensor, known: FollowedMap) -> None:
        undropped, self._undropped = self._undropped, None
        if call.func in DROPOUTS or call.func in NOISY:
            dropped = after_dropout(call, source, known, undropped)
        else:
            mask = self._random_mask(call)
            assert mask is not None
            dropped = after_mask(mask, call, source, known, undropped)
        if dropped is not known or call.result is not source:
            self._known[call.result] = dropped
        self._has_before |= dropped.dropout > 0 and dropped.before is not None

    def _random_mask(self, call: MapCall) -> Tensor | None:
        """The random numbers that a map is multiplied with, alone."""
        if call.func not in ELEMENTWISE and call.func not in _MULTIPLIED_IN_PLACE:
            return None
        return next((each for each in call.tensors if each in self._random), None)

    def _transpose(self, call: MapCall, source: Tensor, known: FollowedMap) -> None:
        """Follow a map whose axes change places."""
        places, kwargs = call.args[1:], call.kwargs
        probe = torch.empty(tuple(range(1, source.ndim + 1)), device="meta")  # sizes that tell the axes apart
        order = [size - 1 for size in call.func(probe, *places, **kwargs).shape]
        turned = known.turned(lambda each: call.func(each, *places, **kwargs))
        assert known.key is not None
        key = order.index(source.ndim + known.key) - source.ndim
        self._known[call.result] = replace(turned, key=key, raised=False)

    def _go_on(self, call: MapCall) -> None:
        """Follow a map through any function: as another map where it has keys still, else without its axes."""
        tracked = [(each, self._known[each]) for each in call.tensors if each in self._known]
        others = any(each not in self._known and self._has_numbers(each) for each in call.tensors)
        if others and not any(each.is_floating_point() or each.dtype == torch.bool for each, _ in tracked):
            return  # other numbers, chosen by positions
        multiplied = others and call.func not in BESIDE and call.func not in CUTS
        for target in call.targets:
            if target is call.args[0]:
                for softmax in (one for _, known in tracked for one in known.softmaxes):
                    softmax.written[target.untyped_storage().data_ptr()] = call.name
            if target.numel() <= 1:
                if target.is_floating_point():
                    for _, known in tracked:
                        known.excuse()
                continue
            keys = [key_after(call, source, known, target, others) for source, known in tracked]
            maps = [(*pair, key) for pair, key in zip(tracked, keys, strict=True) if isinstance(key, int)]
            if maps:
                self._change(call, target, maps, multiplied)
            elif "gone" not in keys:
                self._lose(call, target, [known for _, known in tracked], others, multiplied)

    def _has_numbers(self, tensor: Tensor) -> bool:
        """Whether it holds numbers of data: no parameter, no number alone, no positions."""
        data = tensor.is_floating_point() and tensor.numel() > 1
        return data and not isinstance(tensor, nn.Parameter) and tensor not in self._random

    def _change(
        self, call: MapCall, target: Tensor, sources: list[tuple[Tensor, FollowedMap, int]], multiplied: bool = False
    ) -> None:
        """Another map was made of some; with each the axis that its keys have in it."""
        source, known, key = sources[0]
        maps = [each for _, each, _ in sources]
        picked = call.func is torch.Tensor.__getitem__ and target.numel() == source.numel() and in_order(call.args[1])
        moved = () if picked or not reorders(call, source, known, len(sources)) else (call.name,)
        known = replace(joined(maps, None if picked else call.name), key=key, before=known.before, kept=known.kept)
        own = maps[0].key
        piece = known.piece or (own is not None and target.shape[key] == 1 < source.shape[own])
        known = replace(known, reordered=(*known.reordered, *moved), piece=piece)
        if multiplied:
            uses = known.use(call.name, call.module)
            known = replace(known, uses=uses if call.func in ELEMENTWISE else known.uses)
        self._known[target] = before_changed(
            call, source, known, alone=len(sources) == 1 and target is not call.args[0]
        )

    def _lose(self, call: MapCall, target: Tensor, maps: list[FollowedMap], others: bool, multiplied: bool) -> None:
        """The axes of what was made of a map are not known."""
        lost = all(known.key is None for known in maps)
        if lost and (call.weighted_by_parameters or (others and call.func in ADDITIONS)):
            return  # nothing of a map any more than of what it was mixed with
        known = joined(maps, call.name)
        if not others and is_piece(call) and target.numel() < call.tensors[0].numel():
            known = replace(known, piece=True)
        elif multiplied and known.piece and call.func in ELEMENTWISE and takes_parts(call, self._known):
            known = replace(known, uses=known.use(call.name, call.module))  # of one key's weights and values
        if call.func in SUMS:  # values are left, so that what follows excuses nothing
            known = replace(known, uses=())
        weighted = any(each.weighted for each in maps)
        if (multiplied and call.func not in ELEMENTWISE) or (weighted and call.func in SUMS):
            known.use(call.name, call.module)
            return
        self._known[target] = replace(known, weighted=weighted or multiplied)
