"""What D and G minimise. Logits are float (n,), above 0 for "real"; losses are means over the batch, in nats."""

import torch
from torch import Tensor
from torch.nn import functional

from training.config import TrainConfig


def discriminator_loss(config: TrainConfig, real: Tensor, fake: Tensor) -> Tensor:
    """bce: −log D(x) − log(1 − D(G(z))) (Goodfellow et al. 2014, eq. 1); hinge: Lim and Ye 2017, eq. 8."""
    real, fake = real.float(), fake.float()
    if config.loss == "hinge":
        return functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()
    # −t log σ(x) − (1 − t) log(1 − σ(x)) = softplus(−x) + (1 − t) x, with t = 1 − label_smoothing for real images
    return functional.softplus(-real).mean() + config.label_smoothing * real.mean() + functional.softplus(fake).mean()


def generator_loss(config: TrainConfig, fake: Tensor) -> Tensor:
    """bce: −log D(G(z)), the non-saturating form of Goodfellow et al. 2014, section 3; hinge: −f(G(z))."""
    fake = fake.float()
    return -fake.mean() if config.loss == "hinge" else functional.softplus(-fake).mean()


def gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """½ E‖∇ₓ f(x)‖² over real images: R1 with γ = 1 (Mescheder, Geiger and Nowozin 2018, eq. 9)."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return 0.5 * gradient.float().square().flatten(1).sum(1).mean()
