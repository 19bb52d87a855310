"""Columns of numbers and categories to one matrix `x`, and a target `y`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ._checks import check_values, class_labels, column_of, places, plain_numbers


@dataclass(frozen=True, kw_only=True)
class Tabular:
    """Columns to `x` of float32, (n, number of features), and a label to `y`, for `dataset.map`.

    x has the features in the order given: a column of numbers (n,) is one column of x, of shape (n, d) it is d of them, each
    (value - mean) / std; one with `categories` is as many as it has values, of which the row's own is 1 and the others are 0. A column
    `sample_weight` is kept.

    Example:
        >>> city = {"city": ("Bonn", "Ulm")}
        >>> prepare = Tabular(features=("age", "city"), label="sick", categories=city, mean={"age": 50}, std={"age": 10})
        >>> columns = prepare({"age": [40, 65], "city": ["Ulm", "Bonn"], "sick": [True, False]})
        >>> columns["x"].tolist(), columns["y"].tolist()
        ([[-1.0, 0.0, 1.0], [1.5, 1.0, 0.0]], [1, 0])
    """

    features: Sequence[str]  # columns, in the order of x
    label: str | None  # column; None: there is no y
    classes: Sequence[Any] = ()  # the labels by their number in y, where they are names
    categories: Mapping[str, Sequence[Any]] = field(default_factory=dict)  # feature -> the values that it can have
    one_hot: bool = True  # False: a category is one feature, its place among the values
    allow_unknown: bool = False  # a value that is not listed: 0 for every listed one, or the place after the last; otherwise an error
    mean: Mapping[str, float | Sequence[float] | np.ndarray] = field(default_factory=dict)  # feature -> what is subtracted; missing: 0
    # Feature -> what is then divided by, > 0; missing: 1.
    std: Mapping[str, float | Sequence[float] | np.ndarray] = field(default_factory=dict)

    def __post_init__(self):
        if isinstance(self.features, str) or not self.features or len(set(self.features)) != len(self.features):
            raise ValueError(f"Tabular.features must list columns, at least one and each once, got {self.features!r}.")
        if self.label in self.features:
            raise ValueError(f"Tabular.features must not hold the label, got {self.label!r} among them: a model would read off the answer.")
        check_values(self.classes, argument="Tabular.classes")
        for feature, values in self.categories.items():
            check_values(values, argument=f"Tabular.categories[{feature!r}]")
        numbers = [feature for feature in self.features if feature not in self.categories]
        for name, allowed in (("categories", self.features), ("mean", numbers), ("std", numbers)):
            if unknown := [feature for feature in getattr(self, name) if feature not in allowed]:
                raise ValueError(
                    f"Tabular.{name} must be about {'features' if name == 'categories' else 'features without categories'}, "
                    f"that is some of {list(allowed)}, got {unknown}."
                )
        for name in ("mean", "std"):
            given = {feature: plain_numbers(value, f"Tabular.{name}[{feature!r}]", name) for feature, value in getattr(self, name).items()}
            object.__setattr__(self, name, given)

    def __call__(self, examples: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The columns x, float32 (n, k), and y (n,): int32, or float32 if the label is of floats and there are no `classes`.

        Raises:
            ValueError: A column is missing or not as described above; the message names it.
        """
        parts = {feature: self._feature(examples, feature) for feature in self.features}
        if len(set(map(len, parts.values()))) > 1:
            lengths = {name: len(part) for name, part in parts.items()}
            raise ValueError(f"The features must be equally long, got {lengths}. Give every column one entry per example.")
        columns = {"x": np.concatenate(list(parts.values()), axis=1)}
        if self.label is not None:
            columns["y"] = _target(column_of(examples, self.label, asked_by="Tabular", argument="label"), self.classes, self.label)
        if "sample_weight" in examples:
            columns["sample_weight"] = np.asarray(examples["sample_weight"])
        return columns

    def _feature(self, examples: Mapping[str, Any], name: str) -> np.ndarray:
        """One column as float32 (n, d)."""
        column = column_of(examples, name, asked_by="Tabular", argument="features")
        if name in self.categories:
            values = self.categories[name]
            found = places(column, values, name, listed_in=f"categories[{name!r}]", allow_unknown=self.allow_unknown)
            if not self.one_hot:
                return found[:, None].astype(np.float32)
            # One row more than columns: the row of an unknown value is all 0.
            return np.eye(len(values) + 1, len(values), dtype=np.float32)[found]
        if column.ndim not in (1, 2) or (column.size and column.dtype.kind not in "biuf"):
            raise ValueError(
                f"The feature {name!r} must be numbers of shape (n,) or (n, d), got {column.dtype} of shape {column.shape}. "
                "Give the values that it can have in `categories=`, or turn it into numbers with `dataset.map` first."
            )
        matrix = column.astype(np.float64).reshape(len(column), 1 if column.ndim == 1 else column.shape[1])
        mean, std = self._numbers("mean", name, matrix.shape[1]), self._numbers("std", name, matrix.shape[1])
        with np.errstate(over="ignore"):  # found below, with all else that is not finite
            x = ((matrix - mean) / std).astype(np.float32)
        if not (finite := np.isfinite(x).all(axis=1)).all():
            row = int(np.argmin(finite))
            raise ValueError(
                f"The feature {name!r} must be finite and within float32, got {column[row]} in row {row} "
                f"({np.sum(~finite)} of {len(x)} rows are not). "
                "Fill in what is missing with `dataset.map`, or leave these examples out with `dataset.filter`."
            )
        return x

    def _numbers(self, kind: Literal["mean", "std"], name: str, size: int) -> np.ndarray:
        """The mean or standard deviation of a feature, shape () or (size,)."""
        numbers = np.asarray(getattr(self, kind).get(name, {"mean": 0.0, "std": 1.0}[kind]))
        if numbers.ndim and len(numbers) != size:
            raise ValueError(f"Tabular.{kind}[{name!r}] must be one number or {size}, one per column of x, got {len(numbers)} numbers.")
        return numbers


def _target(column: np.ndarray, classes: Sequence[Any], name: str) -> np.ndarray:
    if len(classes) or column.dtype.kind != "f":
        return class_labels(column, classes, name)
    if not np.isfinite(column).all():
        raise ValueError(f"The label column {name!r} must be finite. Leave examples without a label out with `dataset.filter`.")
    return column.astype(np.float32)
