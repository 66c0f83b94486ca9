"""L2-regularised squared-hinge linear SVM, many problems at once, solved to a certified optimum.

The problem is liblinear's L2R_L2LOSS_SVC (Fan et al. 2008, eq. 1, with the squared hinge), one column j for every
class, fold and label draw:

    minimise over w    P(w) = ½‖w‖² + Σᵢ cᵢⱼ max(0, 1 − yᵢⱼ f(xᵢ))²,      f(x) = w·[x, intercept_scaling]

so the intercept is a penalised weight, as in scikit-learn's LinearSVC. All columns share each pass over X.

Method: the finite Newton method of Mangasarian (2002) and Keerthi and DeCoste (2005) with an exact line search. Where
n < d the iterates are w = Xᵀβ and a pass is a product with the Gram matrix XXᵀ, formed once; otherwise passes run
over blocks of rows of X. Newton systems are solved by conjugate gradients, preconditioned with the leading
eigenvectors that a randomised subspace iteration finds (Halko, Martinsson and Tropp 2011), or directly where min(n, d)
is small or conjugate gradients fail.

Certificate: P is 1-strongly convex, so P(w) − min P ≤ ½‖∇P(w)‖²; equally, that is the duality gap of w and the dual
point αᵢ = 2 cᵢ max(0, 1 − yᵢ f(xᵢ)). The solver stops when this bound is at most tol·P(w) in every column, and, where C
is so small that w gains little over 0, at most tol times that gain.

Precision: what is returned (weights, decision values, objective, gap) are float64 sums over the given X. The Gram
matrix and Newton's directions may be float32, with the reduced-precision products (TF32, bfloat16) that the hardware
offers: they change how many steps are taken, not what is certified.
"""

from typing import TYPE_CHECKING, Any

from dcgan_eval.svm.newton import Solution, decision_values, one_vs_rest, solve_path

if TYPE_CHECKING:
    from dcgan_eval.svm.estimator import L2SVC

__all__ = ["L2SVC", "Solution", "decision_values", "one_vs_rest", "solve_path"]


def __getattr__(name: str) -> Any:
    """The estimator when it is asked for: scikit-learn takes half as long to import as torch."""
    if name != "L2SVC":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dcgan_eval.svm.estimator import L2SVC

    return L2SVC
