"""One minibatch: the loss, the gradients, the update."""

import gc
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import get_ema_multi_avg_fn

from dcgan_eval.models.networks import Discriminator, sample_z, scale_images
from dcgan_eval.runtime.random import stream
from dcgan_eval.runtime.ranks import Ranks
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


Seen = dict[str, Tensor]
Update = Callable[..., Seen]


class Recorded:
    """An update whose kernels are recorded on a GPU and then replayed: one launch in place of hundreds, for which a
    processor would need longer than the GPU for the work.

    Its inputs keep their shapes, and what it changes stays where it is in memory.
    """

    WARM = 2  # calls before the recording, in which cuDNN chooses its algorithms

    def __init__(self, update: Update, device: torch.device) -> None:
        self.update, self.device, self.calls = update, device, 0
        # what a recording may follow must not have been on the default stream
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.graph = torch.cuda.CUDAGraph()
        self.inputs: tuple[Tensor | None, ...] = ()
        self.seen: Seen = {}

    def __call__(self, *inputs: Tensor | None) -> Seen:
        with torch.cuda.device(self.device):  # whose stream it is that is recorded
            return self._replayed(*inputs)

    def _replayed(self, *inputs: Tensor | None) -> Seen:
        self.calls += 1
        if self.calls <= self.WARM:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                seen = self.update(*inputs)
            torch.cuda.current_stream().wait_stream(self.stream)
            return seen
        if not self.inputs:
            self.inputs = tuple(None if x is None else x.clone() for x in inputs)
            gc.collect()  # nothing may be freed while it records
            # a thread may be reading images
            with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"):
                self.seen = self.update(*self.inputs)
        for kept, given in zip(self.inputs, inputs, strict=True):
            if kept is not None and given is not None:
                kept.copy_(given)
        self.graph.replay()
        return {name: value.clone() for name, value in self.seen.items()}


class Trainer:
    """One minibatch at a time. updates: by whether they are D's and whether they are G's."""

    def __init__(self, state: State, device: torch.device, ranks: Ranks) -> None:
        self.state, self.device, self.ranks = state, device, ranks
        kinds = [(True, True)] if state.config.updates == "both" else [(False, True), (True, False)]
        self.updates: dict[tuple[bool, bool], Update] = {kind: partial(self._update, *kind) for kind in kinds}
        if device.type == "cuda" and ranks.world == 1:
            self.updates = {kind: Recorded(update, device) for kind, update in self.updates.items()}
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

    def step(self, images: Tensor, y: Tensor | None) -> Seen:
        """Update D, G or both on this rank's share of a minibatch, uint8 NCHW; what there is to tell, on the device."""
        state, config = self.state, self.state.config
        for_g = config.updates == "both" or state.step % 2 == 0
        for_d = config.updates == "both" or not for_g
        # numbers for the whole minibatch, of which each rank takes its share: the same on any number of ranks
        share = slice(self.ranks.rank * len(images), (self.ranks.rank + 1) * len(images))
        z = sample_z(config.architecture, config.batch_size, stream(config.seed, "z", state.step))[share]
        columns = sum(COLUMNS[name] for name in config.diffaugment) * (2 * for_d + for_g)
        draws = torch.rand(config.batch_size, columns, generator=stream(config.seed, "augment", state.step))[share]
        seen = self.updates[for_d, for_g](images, y, send(z, self.device), send(draws, self.device))
        state.step += 1
        return seen

    def _update(self, for_d: bool, for_g: bool, images: Tensor, y: Tensor | None, z: Tensor, draws: Tensor) -> Seen:
        """The arithmetic of a step, all of it on the device."""
        state, config = self.state, self.state.config
        columns = iter(draws.unbind(1))
        seen: Seen = {}
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
            if state.average_d is not None:
                _follow(state.average_d, state.discriminator, config.ema_d)
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
                _follow(state.average, state.generator, config.ema)
        return {name: value.detach().float() for name, value in seen.items()}

    def _descend(self, name: str) -> None:
        optimizer = self.state.optimizers[name]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _autocast(self) -> torch.autocast:
        # a context for each update: weights converted in one must not be used after they have changed
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.state.config.precision == "bfloat16")


def _follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """One step of the exponential average of the weights; buffers, such as singular vectors, are the network's."""
    averages, weights = ([p.data for p in module.parameters()] for module in (average, network))
    get_ema_multi_avg_fn(decay)(averages, weights, None)  # type: ignore[no-untyped-call]
    for kept, given in zip(average.buffers(), network.buffers(), strict=True):
        kept.copy_(given)


def _diversity(real: Tensor, fake: Tensor) -> Tensor:
    """The spread of generated images over that of real ones: mean over pixels of the deviation over the minibatch."""
    of_fake, of_real = (x.detach()[:, :, ::4, ::4].float().std(0).mean() for x in (fake, real))  # a 16th is enough
    return of_fake / of_real
