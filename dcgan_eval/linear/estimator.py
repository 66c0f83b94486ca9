"""The solver as scikit-learn estimators."""

import warnings
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, validate_data
from torch import Tensor

from dcgan_eval.linear.newton import Loss
from dcgan_eval.linear.operators import BLOCK
from dcgan_eval.linear.path import decision_values, solve_path
from dcgan_eval.linear.softmax import Softmax
from dcgan_eval.linear.squared_hinge import SquaredHinge, one_vs_rest
from dcgan_eval.runtime.ranks import ALONE, Ranks


class _Linear(ClassifierMixin, BaseEstimator):
    """What both estimators do: labels to classes, rows to tensors, the solver, and its certificate."""

    C: float
    tol: float
    class_weight: dict[Any, float] | str | None
    max_iter: int
    device: torch.device | str | None
    ranks: Ranks | None

    def _loss(self, index: Tensor, weight: Tensor, balance: Tensor) -> Loss:
        """Of rows of classes index (n,) with weights (n,) and those of the classes."""
        raise NotImplementedError

    def fit(self, X: ArrayLike | Tensor, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """X: (n, d); y: (n,) labels of two or more classes; sample_weight: (n,) ≥ 0, multiplies C."""
        if isinstance(X, Tensor):
            rows = X
            self.n_features_in_ = _check_tensor(rows)
        else:
            array, y = validate_data(self, X, y, dtype=(np.float64, np.float32))
            rows = _tensor(array)
        y = np.asarray(y)
        check_classification_targets(y)
        if len(y) != len(rows):
            raise ValueError(f"X has {len(rows)} rows but y has {len(y)} labels")
        weight = np.ones(len(y))
        if sample_weight is not None:
            weight = check_array(sample_weight, dtype=np.float64, ensure_2d=False, input_name="sample_weight").copy()
            check_consistent_length(weight, y)
            if weight.ndim != 1 or np.any(weight < 0) or not np.any(weight):
                raise ValueError("sample_weight must be one weight ≥ 0 for each row, and they must not all be zero")
        ranks, name = self.ranks or ALONE, type(self).__name__
        labels, weights = (_everywhere(values, ranks) for values in (y, weight))
        self.classes_ = np.unique(labels)
        if len(self.classes_) < 2:
            raise ValueError(f"{name} needs at least two classes, but y holds 1 class: {self.classes_[0]}")
        index = torch.from_numpy(np.searchsorted(self.classes_, y))
        balance = compute_class_weight(self.class_weight, classes=self.classes_, y=labels, sample_weight=weights)
        loss = self._loss(index, torch.from_numpy(weight), torch.from_numpy(balance))
        path = solve_path(rows, loss, [self.C], tol=self.tol, max_iter=self.max_iter, device=self.device, ranks=ranks)
        solution = next(path)
        if not solution.converged and ranks.first:
            warnings.warn(
                f"{name} at C={solution.C:g} stopped after {solution.n_iter} Newton steps with a relative gap of "
                f"{float(solution.relative_gap.max()):.1e}, more than tol={self.tol:g}: scale the features, or raise "
                "max_iter or tol",
                ConvergenceWarning,
                stacklevel=2,
            )
        coef, intercept = solution.coef, solution.intercept
        if loss.width == 2:  # of the second class against the first
            coef, intercept = coef[:, 1:] - coef[:, :1], intercept[1:] - intercept[:1]
        self.coef_ = coef.T.cpu().numpy()
        self.intercept_ = intercept.cpu().numpy()
        self.objective_ = solution.objective.cpu().numpy()
        self.gap_ = solution.gap.cpu().numpy()
        self.n_iter_ = solution.n_iter
        return self

    def decision_function(self, X: ArrayLike | Tensor) -> NDArray[np.float64]:
        """f(x): (n, n_classes), or (n,) for two classes, positive for classes_[1]."""
        check_is_fitted(self)
        if not isinstance(X, Tensor):
            X = _tensor(validate_data(self, X, dtype=(np.float64, np.float32), reset=False))
        elif _check_tensor(X) != self.n_features_in_:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__} was fitted on {self.n_features_in_}"
            )
        F = decision_values(X, torch.from_numpy(self.coef_.T), torch.from_numpy(self.intercept_)).cpu().numpy()
        return F[:, 0] if len(self.classes_) == 2 else F

    def predict(self, X: ArrayLike | Tensor) -> NDArray[Any]:
        """The class with the largest decision value, (n,)."""
        F = self.decision_function(X)
        return self.classes_[(F > 0).astype(int) if F.ndim == 1 else F.argmax(1)]


class L2SVC(_Linear):
    """Linear classification by the L2-regularised squared hinge, one-vs-rest: LinearSVC's problem, solved to `tol`.

    Parameters: C > 0; tol, the certified bound on (objective − optimum) / objective; fit_intercept and
    intercept_scaling, the penalised constant feature; class_weight, None, 'balanced' or a dict, which as in liblinear
    weighs the positive class of each one-vs-rest problem (both classes if there are two); max_iter Newton steps;
    device, None for that of X; ranks, those of `dcgan_eval.runtime.ranks.joined`, each of which is given some of the
    rows, at least one, and learns the whole model.

    Learned: classes_; coef_ float64 (n_classes or 1, d); intercept_ float64 (n_classes or 1,); objective_ and gap_
    float64, P and the certified bound on its distance from the optimum, for each row of coef_; n_iter_ Newton steps.

    X is (n, d), a NumPy array, memory map or torch tensor; large ones of float32 or float64 are not copied.

    Raises ValueError for NaN, C ≤ 0, a single class, and for labels other than numbers where there are several ranks;
    UncertifiedError for a solution that is not finite. Warns (ConvergenceWarning) where the certificate was not
    reached.
    """

    def __init__(
        self,
        C: float = 1.0,
        *,
        tol: float = 1e-6,
        fit_intercept: bool = True,
        intercept_scaling: float = 1.0,
        class_weight: dict[Any, float] | str | None = None,
        max_iter: int = 100,
        device: torch.device | str | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.C = C
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
        self.class_weight = class_weight
        self.max_iter = max_iter
        self.device = device
        self.ranks = ranks

    def _loss(self, index: Tensor, weight: Tensor, balance: Tensor) -> SquaredHinge:
        Y = one_vs_rest(index, len(balance))
        by_class = balance[index][:, None] if Y.shape[1] == 1 else torch.where(Y > 0, balance, 1)
        return SquaredHinge(Y, weight[:, None] * by_class, self.intercept_scaling if self.fit_intercept else 0.0)


class SoftmaxRegression(_Linear):
    """Multinomial logistic regression, the cross-entropy plus ½‖w‖² / C: scikit-learn's LogisticRegression, solved to
    `tol`; the intercepts are not penalised.

    Parameters: C > 0; tol, the certified bound on (objective − optimum) / objective; class_weight, None, 'balanced' or
    a dict, which multiplies the weights of a class's rows; max_iter, device and ranks as in `L2SVC`.

    Learned: classes_; coef_ float64 (n_classes or 1, d); intercept_ float64 (n_classes or 1,); objective_ and gap_
    float64 (1,), ½‖w‖² + C · loss and the certified bound on its distance from the optimum; n_iter_ Newton steps.

    X is (n, d), a NumPy array, memory map or torch tensor; large ones of float32 or float64 are not copied.

    Raises ValueError for NaN, C ≤ 0, a single class, a class whose weights are all 0, and for labels other than numbers
    where there are several ranks; UncertifiedError for a solution that is not finite. Warns (ConvergenceWarning) where
    the certificate was not reached.
    """

    def __init__(
        self,
        C: float = 1.0,
        *,
        tol: float = 1e-6,
        class_weight: dict[Any, float] | str | None = None,
        max_iter: int = 100,
        device: torch.device | str | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.C = C
        self.tol = tol
        self.class_weight = class_weight
        self.max_iter = max_iter
        self.device = device
        self.ranks = ranks

    def _loss(self, index: Tensor, weight: Tensor, balance: Tensor) -> Softmax:
        weight = weight * balance[index]
        totals = (self.ranks or ALONE).sum(torch.zeros(len(balance)).double().index_add_(0, index, weight))
        if bool((totals == 0).any()):
            name = self.classes_[int(totals.argmin())]
            raise ValueError(f"all weights of class {name} are 0, so that its intercept has no optimum")
        return Softmax(index, weight[:, None], len(balance))

    def predict_proba(self, X: ArrayLike | Tensor) -> NDArray[np.float64]:
        """(n, n_classes), rows that sum to 1."""
        F = torch.from_numpy(self.decision_function(X))
        if F.ndim == 1:
            F = torch.stack([torch.zeros_like(F), F], 1)
        return F.softmax(1).numpy()


def _everywhere(values: NDArray[Any], ranks: Ranks) -> NDArray[Any]:
    """The values of all ranks."""
    if ranks.world == 1:
        return values
    if values.dtype.kind not in "biuf":
        raise ValueError(f"with several ranks labels must be numbers, not {values.dtype}")
    return np.asarray(ranks.gathered(torch.from_numpy(np.ascontiguousarray(values))).numpy())


def _check_tensor(X: Tensor) -> int:
    if X.ndim != 2 or X.dtype not in (torch.float32, torch.float64) or not X.numel():
        raise ValueError(f"X must be float32 or float64 (n, d) and not empty, got {X.dtype} {tuple(X.shape)}")
    for block in torch.split(X, max(1, BLOCK // X.shape[1])):
        if not bool(block.isfinite().all()):
            raise ValueError("X holds NaN or infinite values")
    return X.shape[1]


def _tensor(X: NDArray[Any]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # it is never written to
        # torch knows no negative strides
        return torch.from_numpy(X if min(X.strides) >= 0 else np.ascontiguousarray(X))
