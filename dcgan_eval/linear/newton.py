"""Newton's method for many problems at once, whatever their loss."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, Self

import torch
from torch import Tensor

from dcgan_eval.linear.operators import DIRECT, NARROW, WIDE, Gram, Operator
from dcgan_eval.linear.preconditioner import Preconditioner
from dcgan_eval.runtime.ranks import Ranks

SHORT, PATIENCE_SHORT = 0.1, 3  # steps below this length, and how many of them before directions are made more exact
STUCK = 5  # Newton steps that gain nothing before a problem is given up
CG_STEPS = 100
GAIN = 1e-6  # what is gained over w = 0 counts as at least this share of the objective
# of the Newton residual; less in float64, which small problems have from the start, and those where float32 failed
CG_REDUCTION = {torch.float32: 3e-2, torch.float64: 1e-4}
ROUGH_REDUCTION = 0.1  # of it, far from the optimum, where the Hessian is still to change


class Curvature(Protocol):
    """The Hessian of a loss in the decision values: for each row a matrix over the columns of a problem.

    diagonal: (n, columns) ≥ 0.
    """

    @property
    def diagonal(self) -> Tensor: ...

    def of(self, problems: Tensor) -> Self:
        """That of some problems, bool (m,)."""
        ...

    def to(self, device: torch.device, dtype: torch.dtype) -> Self: ...

    def moved(self, FD: Tensor) -> tuple[Tensor, Tensor]:
        """A change of decision values, (n, columns), and of the free intercepts, (columns,), which follow it: what
        both come to."""
        ...

    def __call__(self, FD: Tensor) -> Tensor:
        """The change of −`pull` of a point with such a change of decision values, (n, columns)."""
        ...


class Point(Protocol):
    """A loss at decision values F, and at the free intercepts that are best for them.

    value: (m,), summed over the rows of all ranks. pull: (n, columns), −∂value/∂F. b: (columns,), the free intercepts.
    """

    @property
    def value(self) -> Tensor: ...
    @property
    def pull(self) -> Tensor: ...
    @property
    def b(self) -> Tensor: ...
    @property
    def curvature(self) -> Curvature: ...

    def of(self, problems: Tensor) -> Self:
        """That of some problems, bool (m,)."""
        ...

    def slope(self, t: Tensor, FD: Tensor) -> tuple[Tensor, Tensor]:
        """The first and second derivatives by t (m,) where decision values have changed by t FD: (m,) each."""
        ...


class Loss(Protocol):
    """A convex loss of the decision values of m problems on n rows, each with `width` columns, side by side.

    name: what messages call a problem. weight: float64 (n, m) ≥ 0. intercept_scaling: the constant feature, whose
    weights are penalised as the others are. centred: whether the mean of X is taken from it, which changes nothing but
    free intercepts, and keeps it out of Hessians. unit: what is minimised in units of ½‖w‖² and of the loss. steepest:
    the largest curvature of a row of weight 1. ladder: whether the optima of smaller C lead to that of C. solve:
    Newton's directions from iterates, each from a factorisation; None where that does not help.
    """

    @property
    def name(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def weight(self) -> Tensor: ...
    @property
    def intercept_scaling(self) -> float: ...
    @property
    def centred(self) -> bool: ...
    @property
    def unit(self) -> float: ...
    @property
    def steepest(self) -> float: ...
    @property
    def ladder(self) -> bool: ...
    @property
    def solve(self) -> Callable[[Operator, Any, Tensor], Tensor] | None: ...

    def check(self, n: int, ranks: Ranks) -> None:
        """Raises ValueError where shapes disagree, for n rows of this rank, or weights cannot be."""
        ...

    def to(self, device: torch.device) -> Self: ...

    def scaled(self, C: float) -> Self:
        """With all weights times C."""
        ...

    def of(self, problems: Tensor) -> Self:
        """That of some problems, int64 (k,)."""
        ...

    def at_zero(self, form: Operator) -> Tensor:
        """The least loss where all weights are 0, (m,)."""
        ...

    def at(self, form: Operator, F: Tensor, b: Tensor) -> Point:
        """At decision values F, (n, columns), which leave out free intercepts; these are looked for from b on."""
        ...

    def by_coefficients(self, form: Gram, u: Tensor, point: Any, gap: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
        """`gap`, (m,), or less where the coefficients u themselves prove less and it matters; and what proves it,
        (n, columns), `pull` elsewhere."""
        ...

    def proofs(self, form: Operator, point: Any, found: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Dual points that may prove most, the likeliest first: A of w = XᵀA, (n, columns), and the gap that is left
        where that is so, a sum of terms ≥ 0, (m,). found: such an A, of Newton's iterates."""
        ...


class Found(NamedTuple):
    """U: iterates in the coordinates of a form, always finite. F: their decision values, form.forward(U) + offset.
    b: the free intercepts, (columns,). dual: (n, columns), what proves most of them. steps: Newton's. met: whether
    every problem's gap is as small as was asked for."""

    U: Tensor
    F: Tensor
    b: Tensor
    dual: Tensor
    steps: int
    met: bool


def gained(objective: Tensor, at_zero: Tensor) -> Tensor:
    """P(0) − P(w), which is far below P where C is small, and then says better what w is worth."""
    return torch.minimum(torch.maximum(at_zero - objective, GAIN * objective), objective)


def summed(values: Tensor, width: int) -> Tensor:
    """(m,), the sums over the columns of each problem, of values (m · width,)."""
    return values if width == 1 else values.view(-1, width).sum(1)


def spread(values: Tensor, width: int) -> Tensor:
    """(m · width,), one for each column, of values (m,)."""
    return values if width == 1 else values.repeat_interleave(width)


def newton(
    form: Operator,
    loss: Loss,
    U: Tensor,
    b: Tensor,
    offset: Tensor,
    tol: float,
    max_iter: int,
    dtype: torch.dtype = torch.float64,
) -> Found:
    """Newton's iterates from U on, to where every problem's gap is at most tol of what is gained, or where no direction
    brings it lower. Products with X are computed in `dtype`; less than float64 is for a tol that its rounding allows.
    """
    agreed, m, width, rough = form.ranks.agreed, loss.weight.shape[1], loss.width, dtype != torch.float64
    device = form.device if dtype == form.dtype else form.wide
    first, most = (form.least, form.most) if loss.solve else (min(form.least, WIDE), min(form.most, WIDE))

    def computed(product: Callable[[Tensor], Tensor], A: Tensor) -> Tensor:
        return product(A.to(device, dtype)).to(A)

    U, b, F, at_zero = U.clone(), b.clone(), computed(form.forward, U) + offset, loss.at_zero(form)
    met = torch.zeros(m, dtype=torch.bool, device=U.device)
    live = torch.arange(m, device=U.device)
    effort = torch.full_like(live, first)  # how directions are computed
    stuck, short = torch.zeros_like(live), torch.zeros_like(live)
    least, smallest = torch.full((2, m), torch.inf, dtype=torch.float64, device=U.device)
    dual = torch.zeros_like(F)
    step = 0
    for step in range(max_iter + 1):
        columns = _columns(live, width)
        u, f, o = (a[:, columns] for a in (U, F, offset))
        some = loss.of(live)
        point = some.at(form, f, b[columns])
        b[columns] = point.b
        G = u - computed(form.adjoint, point.pull)
        objective = 0.5 * summed(form.dot(u, u, f - o), width) + point.value
        allowed = tol * gained(objective, at_zero[live])
        gap = 0.5 * summed(form.dot(G, G, form.image(G)), width)
        proof = point.pull
        if isinstance(form, Gram):
            gap, proof = some.by_coefficients(form, u, point, gap, allowed)
        dual[:, columns] = proof
        unfinished = agreed((~(gap <= allowed)).int()) > 0  # NaN is not finished
        met[live] = ~unfinished
        # what lowers neither the objective nor the gap has met its rounding
        gains = (objective < least[live] * (1 - 64 * torch.finfo(dtype).eps)) | (gap < 0.9 * smallest[live])
        gains = agreed(gains.int()) > 0
        stuck[live] = torch.where(gains, 0, stuck[live] + 1)
        least[live], smallest[live] = torch.fmin(least[live], objective), torch.fmin(smallest[live], gap)
        # more exact directions would meet the rounding of rough products again
        more = (stuck[live] >= STUCK) & (effort[live] < most) & (not rough)
        effort[live] += more.long()
        stuck[live] = torch.where(more, 0, stuck[live])
        unfinished &= agreed(stuck[live]) < STUCK
        if step == max_iter or not bool(unfinished.any()):
            break
        if not bool(unfinished.all()):
            left = _columns(torch.nonzero(unfinished)[:, 0], width)
            live, point, u, f, G = live[unfinished], point.of(unfinished), *(a[:, left] for a in (u, f, G))
            columns = _columns(live, width)
        D, FD, tried = _directions(form, loss, computed, point, u, G, effort[live], most, rough)
        effort[live] = tried
        ud, dd = (summed(form.dot(a, D, FD), width) for a in (u, D))
        moved, db = point.curvature.moved(FD)
        t = _line_search(form, ud, dd, point, moved)
        short[live] += (t < SHORT).long()
        if most == DIRECT and not rough:
            effort[live] = torch.where(short[live] > PATIENCE_SHORT, DIRECT, effort[live])
        t = spread(t, width)
        u, f = u + t * D, f + t * FD
        finite = spread(_finite(form, u, f, width), width)
        U[:, columns], F[:, columns] = torch.where(finite, u, U[:, columns]), torch.where(finite, f, F[:, columns])
        b[columns] = torch.where(finite, point.b + t * db, b[columns])
    return Found(U, F, b, dual, step, bool(met.all()))


def _columns(problems: Tensor, width: int) -> Tensor:
    """Of problems, int64 (k,)."""
    if width == 1:
        return problems
    return (problems[:, None] * width + torch.arange(width, device=problems.device)).flatten()


def _directions(
    form: Operator,
    loss: Loss,
    computed: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor],
    point: Point,
    u: Tensor,
    G: Tensor,
    effort: Tensor,
    most: int,
    rough: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Directions of descent D, F D as `computed`, and the effort that each problem is to be given next: more where this
    failed. rough: directions that point about to the optimum will do.

    Where even the most gives no descent, D is steepest descent: there nothing is left but rounding.
    """
    width, agreed = loss.width, form.ranks.agreed
    D, FD, effort = torch.zeros_like(u), torch.zeros_like(point.pull), effort.clone()
    todo = torch.ones_like(effort, dtype=torch.bool)
    while bool(todo.any()):
        for level in (NARROW, WIDE, DIRECT):
            now = todo & (effort == level)
            if not bool(now.any()):
                continue
            columns = _columns(torch.nonzero(now)[:, 0], width)
            if level == DIRECT:
                assert loss.solve is not None
                D[:, columns] = loss.solve(form, point.of(now), u[:, columns])
                solved = now[now]
            else:
                dtype = form.dtype if level == NARROW else torch.float64
                reduction = ROUGH_REDUCTION if rough else CG_REDUCTION[dtype]
                curvature = point.curvature.of(now)
                D[:, columns], solved = _conjugate_gradients(form, width, G[:, columns], curvature, dtype, reduction)
            D[:, columns] = agreed(D[:, columns])
            FD[:, columns] = computed(form.forward, D[:, columns])
            descends = summed(form.dot(G[:, columns], D[:, columns], FD[:, columns]), width) < 0
            descends &= _finite(form, D[:, columns], FD[:, columns], width)
            descends, solved = (agreed(flags.int()) > 0 for flags in (descends, solved))
            last = level == most
            # directions cut short still descend, so that more is worth it only where it ends in a factorisation
            effort[now] += (~solved).long() if level < most == DIRECT else 0
            if last and not bool(descends.all()):
                none = _columns(torch.nonzero(now)[:, 0][~descends], width)
                D[:, none] = agreed(-G[:, none])
                FD[:, none] = computed(form.forward, D[:, none])
                descends = torch.ones_like(descends)
            todo[now] = ~descends
            effort[todo & now] = level + 1
    return D, FD, effort


def _finite(form: Operator, u: Tensor, f: Tensor, width: int) -> Tensor:
    """Which problems are finite, in the rows of all ranks."""
    wrong = (~(u.isfinite().all(0) & f.isfinite().all(0))).int()
    return form.ranks.largest(summed(wrong, width)) == 0


def _conjugate_gradients(
    form: Operator, width: int, G: Tensor, curvature: Curvature, dtype: torch.dtype, reduction: float
) -> tuple[Tensor, Tensor]:
    """Directions D with (I + Xᵀ curvature X) D ≈ −G, and of which problems the residual was reduced so far.

    A problem whose products lose positive definiteness, or are not finite, keeps what it had before.
    """
    agreed, device = form.ranks.agreed, form.device if dtype == form.dtype else form.wide
    r, curvature = -G.to(device, dtype), curvature.to(device, dtype)
    D, p, Fp = torch.zeros_like(r), torch.zeros_like(r), torch.zeros_like(curvature.diagonal)
    preconditioned = Preconditioner(form, curvature.diagonal, width)
    sound = torch.ones(r.shape[1] // width, dtype=torch.bool, device=device)
    solved = torch.zeros_like(sound)
    before = stop = torch.zeros(len(sound), dtype=dtype, device=device)
    for step in range(CG_STEPS):
        z, Fz, rz = preconditioned(r)
        rz = agreed(summed(rz, width))
        if step == 0:
            before, stop = rz, reduction**2 * rz
        solved |= sound & (rz >= 0) & (rz <= stop)
        sound &= (rz > 0) & rz.isfinite()
        active = sound & ~solved
        if not bool(active.any()):
            break
        going, ratio = spread(active, width), spread(rz / before, width)
        p, Fp = torch.where(going, z + ratio * p, 0), torch.where(going, Fz + ratio * Fp, 0)
        bent = curvature(Fp)
        bend = agreed(summed(form.dot(p, p, Fp) + form.total(Fp * bent), width))
        sound &= ~active | ((bend > 0) & bend.isfinite())
        alpha = spread(torch.where(active & sound, rz / bend, 0), width)
        D = torch.where(alpha > 0, D + alpha * p, D)
        r = torch.where(alpha > 0, r - alpha * (p + form.adjoint(bent)), r)
        before = torch.where(active, rz, before)
    return D.to(G), solved.to(G.device)


def _line_search(form: Operator, ud: Tensor, dd: Tensor, point: Point, FD: Tensor) -> Tensor:
    """The t > 0 that minimises the convex P(u + t D) of every problem: safeguarded Newton on P′."""
    t, low, high = torch.ones_like(ud), torch.zeros_like(ud), torch.full_like(ud, torch.inf)
    enough = 1e-3 * form.ranks.agreed(ud + point.slope(low, FD)[0]).abs()
    for _ in range(50):
        slope, curvature = point.slope(t, FD)
        slope = form.ranks.agreed(ud + t * dd + slope)
        if bool((slope.abs() <= enough).all()):
            break
        high, low = torch.where(slope > 0, t, high), torch.where(slope < 0, t, low)
        t = t - slope / (dd + curvature)
        middle = torch.where(high.isinf(), 2 * low + 1, (low + high) / 2)
        t = torch.where((t > low) & (t < high), t, middle)
    return form.ranks.agreed(t)
