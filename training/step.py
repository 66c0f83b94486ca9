"""One minibatch: the loss, the gradients, the update."""

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import get_ema_multi_avg_fn

from dcgan_eval.networks import Discriminator, sample_z, scale_images
from dcgan_eval.ranks import Ranks
from dcgan_eval.streams import stream
from training import distributed
from training.augment import COLUMNS, augment
from training.config import TrainConfig
from training.data import send
from training.losses import discriminator_loss, generator_loss, gradient_penalty
from training.states import State


class DiscriminatorLoss(nn.Module):
    """Its forward pass is all that D's gradients come from, as DistributedDataParallel wants it."""

    def __init__(self, discriminator: Discriminator, config: TrainConfig) -> None:
        super().__init__()
        self.discriminator, self.config = discriminator, config

    def forward(self, real: Tensor, fake: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The loss and both logits; real and fake are batches of their own to BatchNorm, as in the authors' code."""
        if self.config.r1:
            real = real.requires_grad_()
        on_real, on_fake = self.discriminator(real, y), self.discriminator(fake, y)
        loss = discriminator_loss(self.config, on_real, on_fake)
        if self.config.r1:
            loss = loss + self.config.r1 * gradient_penalty(on_real, real)
        return loss, on_real, on_fake


class Trainer:
    """One minibatch at a time."""

    def __init__(self, state: State, device: torch.device, ranks: Ranks) -> None:
        self.state, self.device, self.ranks = state, device, ranks
        config = state.config
        self.draw: nn.Module = state.generator
        self.judge: nn.Module = DiscriminatorLoss(state.discriminator, config)
        if ranks.world > 1:
            for network in (state.generator, state.discriminator):
                distributed.share_statistics(network)
            where = [device] if device.type == "cuda" else None
            self.draw, self.judge = (
                DistributedDataParallel(module, where, broadcast_buffers=False) for module in (self.draw, self.judge)
            )

    def step(self, images: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        """Update D, G or both on this rank's share of a minibatch, uint8 NCHW; what there is to tell, on the device."""
        state, config = self.state, self.state.config
        for_g = config.updates == "both" or state.step % 2 == 0
        for_d = config.updates == "both" or not for_g
        # numbers for the whole minibatch, of which each rank takes its share: the same on any number of ranks
        share = slice(self.ranks.rank * len(images), (self.ranks.rank + 1) * len(images))
        z = sample_z(config.architecture, config.batch_size, stream(config.seed, "z", state.step))[share]
        columns = sum(COLUMNS[name] for name in config.diffaugment) * (2 * for_d + for_g)
        draws = torch.rand(config.batch_size, columns, generator=stream(config.seed, "augment", state.step))[share]
        seen = self._update(images, y, send(z, self.device), send(draws, self.device), for_d, for_g)
        state.step += 1
        return {name: value.detach().float() for name, value in seen.items()}

    def _update(
        self, images: Tensor, y: Tensor | None, z: Tensor, draws: Tensor, for_d: bool, for_g: bool
    ) -> dict[str, Tensor]:
        """The arithmetic of a step, all of it on the device."""
        state, config = self.state, self.state.config
        columns = iter(draws.unbind(1))
        seen: dict[str, Tensor] = {}
        real = scale_images(images, config.architecture).contiguous(memory_format=torch.channels_last)
        with torch.set_grad_enabled(for_g), self._autocast():
            fake = self.draw(z, y).contiguous(memory_format=torch.channels_last)
        seen["diversity"] = _diversity(real, fake)

        if for_d:
            with self._autocast():
                shown = [augment(x, config.diffaugment, columns) for x in (real, fake.detach())]
                loss, on_real, on_fake = self.judge(*shown, y)
            torch.autograd.backward(loss)
            self._descend("discriminator")
            seen |= {"loss_d": loss, "d_real": torch.sigmoid(on_real).mean(), "d_fake": torch.sigmoid(on_fake).mean()}

        if for_g:
            state.discriminator.requires_grad_(False)  # its gradients are not wanted here, and cost a third of a pass
            with self._autocast():
                loss = generator_loss(config, state.discriminator(augment(fake, config.diffaugment, columns), y))
            torch.autograd.backward(loss)
            state.discriminator.requires_grad_(True)
            self._descend("generator")
            seen["loss_g"] = loss
            if state.average is not None:
                pairs = zip(state.average.parameters(), state.generator.parameters(), strict=True)
                averages, weights = zip(*pairs, strict=True)
                update = get_ema_multi_avg_fn(config.ema)  # type: ignore[no-untyped-call]
                update([p.data for p in averages], [p.data for p in weights], None)
        return seen

    def _descend(self, name: str) -> None:
        optimizer = self.state.optimizers[name]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _autocast(self) -> torch.autocast:
        # a context for each update: weights converted in one must not be used after they have changed
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.state.config.precision == "bfloat16")


def _diversity(real: Tensor, fake: Tensor) -> Tensor:
    """The spread of generated images over that of real ones: mean over pixels of the deviation over the minibatch."""
    of_fake, of_real = (x.detach()[:, :, ::4, ::4].float().std(0).mean() for x in (fake, real))  # a 16th is enough
    return of_fake / of_real
