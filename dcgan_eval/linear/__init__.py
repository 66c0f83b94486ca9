"""L2-regularised squared-hinge linear SVM, many problems at once, solved to a certified optimum.

The problem is liblinear's L2R_L2LOSS_SVC (Fan et al. 2008, eq. 1, with the squared hinge), one column j for every
class, fold and label draw:

    minimise over w    P(w) = ½‖w‖² + Σᵢ cᵢⱼ max(0, 1 − yᵢⱼ f(xᵢ))²,      f(x) = w·[x, intercept_scaling]

so the intercept is a penalised weight, as in scikit-learn's LinearSVC. All columns share each pass over X.

Method: the finite Newton method of Mangasarian (2002) and Keerthi and DeCoste (2005) with an exact line search. Where
n < d the iterates are w = Xᵀβ and a pass is a product with the Gram matrix XXᵀ, formed once; otherwise passes run
over blocks of rows of X. Newton systems are solved by conjugate gradients, preconditioned with the leading
eigenvectors of XᵀX, which a randomised subspace iteration finds (Halko, Martinsson and Tropp 2011), and on whose span
each problem's own Hessian is inverted; or directly where min(n, d) is small or conjugate gradients fail.

Certificate: the duality gap of w and a dual point α ≥ 0, a bound on P(w) − min P:

    P(w) − D(α) = ½ ‖w − Σᵢ αᵢ yᵢ xᵢ‖² + Σᵢ [cᵢ sᵢ² + αᵢ² / 4cᵢ − αᵢ (1 − yᵢ f(xᵢ))],      sᵢ = max(0, 1 − yᵢ f(xᵢ))

α is 2 cᵢ sᵢ, for which the sum is 0 and the gap ½‖∇P(w)‖², or on the Gram matrix max(0, yᵢ βᵢ), which has none of f's
rounding in it. The solver stops when the gap is at most tol·P(w) in every column, and, where C is so small that w gains
little over 0, at most tol times that gain.

Precision: what is returned (weights, decision values, objective, gap) are float64 sums over the given X. Newton's
directions are float32 where the problem is large, and the Gram matrix may be of split bfloat16: that changes how many
steps are taken, not what is certified. A direction that is not finite or does not descend is computed again in float64,
then by factorisation; a Gram matrix whose rounding cannot be corrected is made again in higher precision, and at last
left for the weights themselves. A solution that is not finite is an error.
"""

from typing import TYPE_CHECKING, Any

from dcgan_eval.linear.newton import Solution, decision_values, one_vs_rest, solve_path
from dcgan_eval.linear.operators import place

if TYPE_CHECKING:
    from dcgan_eval.linear.estimator import L2SVC

__all__ = ["L2SVC", "Solution", "decision_values", "one_vs_rest", "place", "solve_path"]


def __getattr__(name: str) -> Any:
    """The estimator when it is asked for: scikit-learn takes half as long to import as torch."""
    if name != "L2SVC":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dcgan_eval.linear.estimator import L2SVC

    return L2SVC
