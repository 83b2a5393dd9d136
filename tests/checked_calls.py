"""Types and shapes are checked once for each combination of them that a function is called with.

jaxtyping with beartype checks every call, and builds the check of an inner function each time that it is defined. The
tests call the same functions with arrays of the same classes, types and shapes thousands of times, and the answer is
the same each time: it was half of the time that they took. `GMSA_CHECK_EVERY_CALL=1` checks every call.
"""

import dataclasses
import functools
import inspect
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Hashable
from itertools import islice
from types import CodeType
from typing import Any

import jaxtyping

EVERY_CALL = "GMSA_CHECK_EVERY_CALL"
LONGEST_TEXT = 64  # of an argument that can be one of a few given words
FIRST = 8  # values of a container; the check itself looks at one

# The combinations that passed, of each function that was written; an inner function is defined many times. The methods
# that `dataclass` writes may have equal code, but the class of `self` is part of a combination.
_passed: defaultdict[CodeType, set[Hashable]] = defaultdict(set)
# How what a check can see of a value follows from it, by its class; None: the class is all.
_views: dict[type, Callable[[type, Any], Hashable] | None] = {}


def check_once_a_shape() -> None:
    """Make jaxtyping's import hook decorate functions with `once_a_shape`; call it before the packages are imported."""
    if not os.environ.get(EVERY_CALL):
        jaxtyping.jaxtyped = functools.partial(_decorator, jaxtyping.jaxtyped)


def once_a_shape(plain: Callable, check: Callable[[Callable], Callable]) -> Callable:
    """A function that calls `check(plain)` for arguments whose types and shapes are new to it, else `plain`."""
    passed = _passed[plain.__code__]
    checked = functools.cache(lambda: check(plain))

    @functools.wraps(plain)
    def call(*args: object, **kwargs: object) -> object:
        __tracebackhide__ = True
        kinds = map(kind, args)
        key = (len(args), *kinds, *kwargs, *map(kind, kwargs.values())) if kwargs else tuple(kinds)
        if key in passed or sys.is_finalizing():
            return plain(*args, **kwargs)
        result = checked()(*args, **kwargs)
        passed.add(key)
        return result

    return call


def kind(value: object) -> Hashable:
    """What a check can see of a value: its class; of an array also its type and shape; of a short text itself; of a
    container what its values are."""
    cls = type(value)
    try:
        view = _views[cls]
    except KeyError:
        view = _views[cls] = _view(cls, value)
    return cls if view is None else view(cls, value)


def _view(cls: type, value: object) -> Callable[[type, Any], Hashable] | None:
    if hasattr(value, "shape") and hasattr(value, "dtype") and not isinstance(value, type):
        return lambda cls, value: (cls, value.dtype, tuple(value.shape))
    if cls is str:
        return lambda cls, value: value if len(value) <= LONGEST_TEXT else cls
    if cls in (tuple, list, set, frozenset):
        return lambda cls, value: (cls, *map(kind, islice(value, FIRST)))
    if cls is dict:
        return lambda cls, value: (cls, *((kind(key), kind(content)) for key, content in islice(value.items(), FIRST)))
    return None


def _decorator(jaxtyped: Callable, fn: object = None, /, **options: object) -> object:
    if fn is None:
        return functools.partial(_decorator, jaxtyped, **options)
    check = functools.partial(jaxtyped, **options)
    if inspect.isfunction(fn):
        return once_a_shape(fn, check)
    if inspect.isclass(fn) and dataclasses.is_dataclass(fn):
        if inspect.isfunction(init := fn.__dict__.get("__init__")) and not hasattr(init, "__wrapped__"):
            fn.__init__ = once_a_shape(init, check)
        return fn
    return check(fn)
