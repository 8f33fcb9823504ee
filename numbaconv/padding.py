"""The forms in which users write sizes, padding and padding modes, resolved to one value per spatial axis."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, TypeAlias

#: What one spatial axis may be given: "valid", "same", "causal", one int for both ends, or (lo, hi).
AxisPadding: TypeAlias = "str | int | tuple[int, int]"
Padding: TypeAlias = "AxisPadding | Sequence[AxisPadding]"
Ints: TypeAlias = "int | Sequence[int]"
Modes: TypeAlias = "str | Sequence[str]"

PADDINGS = ("valid", "same", "causal")
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
DATA_FORMATS = ("channels_first", "channels_last")


def index_or_none(value: Any) -> int | None:
    """Return `value` as an int where Python accepts it as an index, else None."""
    try:
        return operator.index(value)
    except TypeError:
        return None


def axes_text(ndim: int) -> str:
    """Return "1 spatial axis", "2 spatial axes" and so on."""
    return f"{ndim} spatial {'axis' if ndim == 1 else 'axes'}"


def sizes(value: Any, ndim: int, name: str, minimum: int = 1) -> tuple[int, ...]:
    """Return one int per spatial axis from an int or a sequence of `ndim` ints, each at least `minimum`."""
    rule = "value > 0" if minimum == 1 else f"value >= {minimum}"
    message = f"The `{name}` argument must be a tuple of {ndim} integers. Received {name}={value!r}"
    remedy = f"Pass one integer >= {minimum}, or a tuple of {ndim}, one per spatial axis."
    single = index_or_none(value)
    if single is not None:
        elements: tuple[Any, ...] = (single,) * ndim
    else:
        if isinstance(value, str):
            raise TypeError(f"{message}, of type str. {remedy}")
        try:
            elements = tuple(value)
        except TypeError:
            raise TypeError(f"{message}, of type {type(value).__name__}. {remedy}") from None
        if len(elements) != ndim:
            raise ValueError(f"{message}, which has {len(elements)} elements. {remedy}")
    result = []
    for axis, element in enumerate(elements):
        number = index_or_none(element)
        if number is None:
            raise TypeError(
                f"{message}, including element {element!r} of type {type(element).__name__} at spatial axis {axis}. "
                f"{remedy}"
            )
        if number < minimum:
            where = "" if single is not None else f" at spatial axis {axis}"
            raise ValueError(f"{message}, including values {{{number}}} that do not satisfy `{rule}`{where}. {remedy}")
        result.append(number)
    return tuple(result)


def _bad_padding(padding: Any, ndim: int, why: str) -> str:
    return (
        f"The `padding` argument must be a list/tuple or one of {{'valid', 'same', 'causal'}}. "
        f"Received: padding={padding!r} for {axes_text(ndim)}: {why}. "
        f"Pass a string, one integer >= 0, or a tuple with a string, an integer or a pair (lo, hi) for each axis."
    )


def _axis_form(form: Any, axis: int, padding: Any, ndim: int) -> str | tuple[int, int]:
    """Return "valid", "same", "causal" or (lo, hi) from what one axis was given."""
    if isinstance(form, str):
        if form.lower() not in PADDINGS:
            raise ValueError(_bad_padding(padding, ndim, f"{form!r} at spatial axis {axis} is not a known name"))
        return form.lower()
    number = index_or_none(form)
    if number is not None:
        ends: tuple[Any, ...] = (number, number)
    else:
        try:
            ends = tuple(form)
        except TypeError:
            kind = type(form).__name__
            raise TypeError(
                _bad_padding(padding, ndim, f"{form!r} of type {kind} at spatial axis {axis} is no padding")
            ) from None
        if len(ends) != 2:
            raise ValueError(_bad_padding(padding, ndim, f"{form!r} at spatial axis {axis} is not a pair (lo, hi)"))
    pair = tuple(index_or_none(end) for end in ends)
    if pair[0] is None or pair[1] is None:
        raise TypeError(_bad_padding(padding, ndim, f"{form!r} at spatial axis {axis} is not a pair of integers"))
    if pair[0] < 0 or pair[1] < 0:
        raise ValueError(_bad_padding(padding, ndim, f"{form!r} at spatial axis {axis} is negative"))
    return pair[0], pair[1]


def padding_forms(padding: Any, ndim: int) -> tuple[str | tuple[int, int], ...]:
    """Return "valid", "same", "causal" or (lo, hi) for each spatial axis.

    A string or an integer holds for every axis. A sequence of `ndim` elements holds one form per axis, so `(1, 2)` on
    two axes pads the first by 1 and the second by 2 at both ends, as in PyTorch. Only on one axis is a sequence of two
    integers that axis's pair (lo, hi).
    """
    if isinstance(padding, str) or index_or_none(padding) is not None:
        return (_axis_form(padding, 0, padding, ndim),) * ndim
    try:
        elements = tuple(padding)
    except TypeError:
        raise TypeError(_bad_padding(padding, ndim, f"a {type(padding).__name__} is no padding")) from None
    if ndim == 1 and len(elements) == 2 and all(index_or_none(element) is not None for element in elements):
        elements = (elements,)
    if len(elements) != ndim:
        raise ValueError(_bad_padding(padding, ndim, f"it has {len(elements)} elements, not {ndim}"))
    return tuple(_axis_form(form, axis, padding, ndim) for axis, form in enumerate(elements))


def axis_padding(form: str | tuple[int, int], size: int, extent: int, stride: int) -> tuple[int, int]:
    """Return (lo, hi) of one axis: `extent` is the dilated kernel size `dilation * (k - 1) + 1`."""
    if isinstance(form, tuple):
        return form
    if form == "causal":
        return extent - 1, 0
    if form == "same":
        # TensorFlow's rule: ceil(size / stride) outputs, the odd unit at the end.
        total = max((-(-size // stride) - 1) * stride + extent - size, 0)
        return total // 2, total - total // 2
    return 0, 0


def transposed_axis(
    form: str | tuple[int, int], size: int, extent: int, stride: int, extra: int | None
) -> tuple[int, tuple[int, int]]:
    """Return the output size of a transposed convolution's axis and the (lo, hi) that its mirrored convolution pads.

    `size` is the input's, `extent` the dilated kernel size and `extra` the output padding. The mirrored convolution
    maps the returned size back to `size`: floor((out + lo + hi - extent) / stride) + 1 == size.
    """
    full = (size - 1) * stride + extent
    if isinstance(form, tuple):
        lo, hi = form
        return full - lo - hi + (extra or 0), form
    if form == "valid":
        out = full + (max(stride - extent, 0) if extra is None else extra)
        return out, (0, 0)
    if form == "causal":
        out = size * stride if extra is None else (size - 1) * stride + 1 + extra
        return out, (0, max(full - out, 0))
    # Keras: size * stride, or (size - 1) * stride + extent % 2 + output_padding. The crop is the gradient of
    # TensorFlow's "same" convolution over `out`, the odd unit at the end.
    out = size * stride if extra is None else (size - 1) * stride + extent % 2 + extra
    total = max(full - out, 0)
    return out, (total // 2, total - total // 2)


def padding_modes(mode: Any, ndim: int) -> tuple[str, ...]:
    """Return one padding mode per spatial axis."""
    names = ", ".join(repr(name) for name in PADDING_MODES)
    message = f"The `padding_mode` argument must be one of {{{names}}} or a tuple of {ndim} of them. "
    message += f"Received: padding_mode={mode!r}"
    if isinstance(mode, str):
        elements: tuple[Any, ...] = (mode,) * ndim
    else:
        try:
            elements = tuple(mode)
        except TypeError:
            raise TypeError(f"{message}, of type {type(mode).__name__}.") from None
        if len(elements) != ndim:
            raise ValueError(f"{message}, which has {len(elements)} elements.")
    for axis, element in enumerate(elements):
        if element not in PADDING_MODES:
            raise ValueError(f"{message}, including {element!r} at spatial axis {axis}.")
    return elements


def check_padding_fits(mode: str, pair: tuple[int, int], size: int, axis: int) -> None:
    """Raise ValueError where the input of `size` is too short to supply what `mode` copies into the padding."""
    limit = {"reflect": size - 1, "circular": size}.get(mode)
    if limit is None or max(pair) <= limit:
        return
    rule = "smaller than" if mode == "reflect" else "at most"
    raise ValueError(
        f"padding_mode='{mode}' needs a padding {rule} the input size. Received padding {pair} on an input of size "
        f"{size} at spatial axis {axis}, which has {limit} values to copy. Pad by at most {limit} there, or use "
        f"padding_mode='replicate' or 'zeros', which take any padding."
    )


def check_data_format(data_format: Any) -> str:
    """Return the data format, or raise ValueError."""
    if data_format not in DATA_FORMATS:
        raise ValueError(
            f"The `data_format` argument must be one of {{'channels_first', 'channels_last'}}. "
            f"Received: data_format={data_format!r}"
        )
    return str(data_format)
