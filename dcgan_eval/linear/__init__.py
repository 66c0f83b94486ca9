"""Linear classifiers, many problems at once, solved to a certified optimum.

    minimise over w    P(w) = ½‖w‖² + C · loss(f(x₁), …, f(xₙ)),      f(x) = w·x + b

for every class, fold and label draw together, the loss `SquaredHinge` or `Softmax`. All of them share each pass over X.

Method: Newton's, with an exact line search; on the squared hinge the finite Newton method of Mangasarian (2002) and
Keerthi and DeCoste (2005). Where n < d the iterates are w = Xᵀβ and a pass is a product with the Gram matrix XXᵀ,
formed once; otherwise passes run over blocks of rows of X. Newton systems are solved by conjugate gradients,
preconditioned with the leading eigenvectors of XᵀX, which a randomised subspace iteration finds (Halko, Martinsson and
Tropp 2011), and on whose span each problem's own Hessian is inverted; for the squared hinge directly where min(n, d) is
small or conjugate gradients fail.

Certificate: the duality gap of w and a dual point A, a bound on P(w) − min P:

    P(w) − D(A) = ½ ‖w − XᵀA‖² + Σᵢ [lossᵢ(f(xᵢ)) + loss*ᵢ(−Aᵢ) + Aᵢ·f(xᵢ)]

lossᵢ of row i times its weight and C, loss* its convex conjugate, so that each term is ≥ 0; A is −∂loss/∂f, for which
the sum is 0 and the gap ½‖∇P(w)‖², or another. The solver stops when the gap is at most tol·P(w) in every problem,
and, where C is so small that w gains little over 0, at most tol times that gain.

Precision: what is returned (weights, decision values, objective, gap) are float64 sums over the given X. Newton's
directions are float32 where the problem is large, and the Gram matrix may be of split bfloat16: that changes how many
steps are taken, not what is certified. A direction that is not finite or does not descend is computed again in float64,
then by factorisation; a Gram matrix whose rounding cannot be corrected is made again in higher precision, and at last
left for the weights themselves. A solution that is not finite is an error.
"""

from typing import TYPE_CHECKING, Any

from dcgan_eval.linear.operators import place
from dcgan_eval.linear.path import Solution, decision_values, solve_path
from dcgan_eval.linear.softmax import Softmax
from dcgan_eval.linear.squared_hinge import SquaredHinge, one_vs_rest

if TYPE_CHECKING:
    from dcgan_eval.linear.estimator import L2SVC, SoftmaxRegression

__all__ = [
    "L2SVC",
    "Softmax",
    "SoftmaxRegression",
    "Solution",
    "SquaredHinge",
    "decision_values",
    "one_vs_rest",
    "place",
    "solve_path",
]


def __getattr__(name: str) -> Any:
    """The estimators when they are asked for: scikit-learn takes half as long to import as torch."""
    if name not in ("L2SVC", "SoftmaxRegression"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dcgan_eval.linear import estimator

    return getattr(estimator, name)
