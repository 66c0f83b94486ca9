"""Live networks, and timm's models: what their features are, and which layers."""

import re
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images
from torch import nn

from benchmarks import efficientnet_lite
from dcgan_eval.evaluations.classify import classify
from dcgan_eval.features import each, extract, extractor, timm_features
from dcgan_eval.images import from_tensor
from dcgan_eval.runtime.errors import InputError
from tests.builders import run


def noise(n, shape=(3, 32, 40), seed=0):
    return torch.randint(0, 256, (n, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


class Small(nn.Module):
    """Maps, tokens with a class token, and a head; dropout and BatchNorm, so that training mode would show."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU())
        self.mixer = nn.Linear(6, 5)
        self.unused = nn.Linear(2, 2)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        maps = self.stem(x)
        tokens = self.mixer(maps.flatten(2).transpose(1, 2))
        return {"pooled": self.drop(tokens[:, 0] * 2), "other": tokens}


def small():
    torch.manual_seed(0)
    return Small()


def test_features_are_the_networks_output_and_pooled_layers():
    network, x = small(), noise(5)
    made = extractor(network, layers=("stem", "mixer"))
    assert made.slices == {"all": slice(0, 5), "stem": slice(5, 11), "mixer": slice(11, 16)}
    assert made.features == slice(0, 5)
    network.eval()
    with torch.inference_mode():
        maps = network.stem(x.float() / 255)
        tokens = network.mixer(maps.flatten(2).transpose(1, 2))
        wanted = torch.cat([2 * tokens[:, 0], maps.mean((2, 3)), tokens.mean(1)], 1)
    torch.testing.assert_close(made(x), wanted)
    first = extractor(network, layers=("mixer",), tokens="first")(x)
    torch.testing.assert_close(first[:, 5:], tokens[:, 0])


def test_the_network_given_stays_as_it_is_and_may_change_afterwards():
    network = small().train()
    made, x = extractor(network), noise(3)
    before = made(x)
    assert network.training
    assert not any(part._forward_hooks for part in network.modules())
    with torch.no_grad():
        network.mixer.weight.zero_()
    assert torch.equal(made(x), before)
    assert extractor(network).fingerprint != made.fingerprint


def test_what_decides_features_is_in_the_fingerprint():
    network = small()

    def halves(x):
        return x.float() / 510

    def thirds(x):
        return x.float() / 765

    made = [
        extractor(network),
        extractor(network, transform=halves),
        extractor(network, transform=thirds),
        extractor(network, layers=("stem",)),
        extractor(network, layers=("stem",), tokens="first"),
        extractor(network, layers=("stem",), layout="NHWC"),
        extractor(nn.Sequential(network, nn.Identity())),
    ]
    assert len({one.fingerprint for one in made}) == len(made)
    assert extractor(small(), transform=halves).fingerprint == made[1].fingerprint
    torch.testing.assert_close(made[1](noise(2)), extractor(network)(noise(2) // 2), atol=0.05, rtol=0)


def shifted(by):
    return lambda x: x.float() / 255 - by


class Scaled:
    def __init__(self, by):
        self.by = by

    def __call__(self, x):
        return x.float() * self.by


def test_transforms_that_differ_in_what_they_close_over_are_told_apart():
    network = small()

    def by_default(x, by=0.5):
        return x.float() / 255 - by

    def by_another(x, by=0.1):
        return x.float() / 255 - by

    by_another.__qualname__ = by_default.__qualname__
    transforms = [shifted(0.0), shifted(0.5), by_default, by_another, partial(by_default, by=0.2),
                  partial(by_default, by=0.3)]  # fmt: skip
    made = [extractor(network, transform=transform).fingerprint for transform in transforms]
    assert len(set(made)) == len(made)
    assert extractor(network, transform=shifted(0.5)).fingerprint == made[1]
    with pytest.raises(InputError, match="transform Scaled: prints as an address; give it a __repr__"):
        extractor(network, transform=Scaled(2))


def test_buffers_that_are_not_saved_are_in_the_fingerprint():
    networks = [small(), small()]
    for i, network in enumerate(networks):
        network.register_buffer("offset", torch.full((1,), float(i)), persistent=False)
    assert extractor(networks[0]).fingerprint != extractor(networks[1]).fingerprint


def test_a_layer_is_what_it_gave_before_others_worked_on_it():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(inplace=True))
    x = noise(4, (3, 2, 2))
    found = extractor(network, layers=("1", "1"), shape=(3, 2, 2))(x)
    assert found.shape == (4, 10)
    torch.testing.assert_close(found[:, 5:], network[1](x.float().flatten(1) / 255))
    assert (found[:, 5:] < 0).any()


def test_features_do_not_depend_on_the_batch():
    made, images = extractor(small(), layers=("stem",)), from_tensor(noise(70), name="noise", split="all")
    found = extract(made, images)
    torch.testing.assert_close(torch.cat([made(x[None]) for x in noise(70)]), found)


ONE = nn.ReLU()
TWICE = nn.Sequential(ONE, ONE)


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (small(), {"layers": ("head",)}, "has no layer 'head'; its layers are stem, stem.0"),
        (small(), {"layers": ("unused",)}, "does not call its layer 'unused'"),
        (nn.Linear(7, 2), {}, "fails on images of 3x64x64: "),
        (TWICE, {"layers": ("0",)}, "calls its layer '0' several times"),
        (nn.Sequential(OrderedDict(all=nn.Flatten())), {"layers": ("all",)}, "has no layer 'all'"),
        (nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12288, track_running_stats=False)), {}, "beside other images"),
        (nn.Flatten(0), {}, r"its output gives torch.float32 \(36864,\); want floats of 2 to 4 dimensions"),
        (nn.Unflatten(1, (1, 3)), {}, r"its output gives torch.float32 \(3, 1, 3, 64, 64\)"),
    ],
)
def test_what_is_no_representation_is_refused(network, options, message):
    with pytest.raises(InputError, match=message):
        extractor(network, **options)


def test_a_network_for_one_size_says_so():
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    made = extractor(network, shape=(1, 8, 8))
    assert made(noise(4, (1, 8, 8))).shape == (4, 3)
    with pytest.raises(InputError, match="takes images of 1x8x8"):
        made(noise(4, (1, 9, 9)))


def test_the_page_evaluates_a_network_of_ones_own_in_ten_lines(capsys):
    page = (Path(__file__).parents[2] / "docs" / "backbones.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    assert len([line for line in block.splitlines() if line]) <= 10
    place: dict[str, Any] = {}
    exec(block, place)
    assert "logistic regression" in capsys.readouterr().out
    rows = classify(place["images"]["train"], place["images"]["test"], place["features"], place["options"])
    found = [row for row in rows if row.role == "value" and row.metric == "accuracy"]
    kinds = {"L2-SVM", "logistic regression", *(f"weighted {k}-NN" for k in (10, 20, 100, 200))}
    assert {(row.layer, row.classifier) for row in found} == {(a, b) for a in ("all", "1") for b in kinds}
    assert {(row.layer, row.dimensions) for row in found} == {("all", 256), ("1", 8)}
    assert all(row.value > 80 for row in found if row.layer == "all" and row.classifier == "L2-SVM")


# timm

FAMILIES = {
    "resnet18": "layer4", "vit_tiny_patch16_224": "blocks.11", "tf_efficientnet_lite0": "blocks.6",
    "swin_tiny_patch4_window7_224": "layers.3", "mixer_s32_224": "blocks.7", "convnext_atto": "stages.3",
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_timms_features_are_what_timm_computes(name, monkeypatch):
    """By its own transform, model and classifier input; the last block pooled is what precedes its head's norm."""
    x = noise(3)
    made = timm_features(name, weights="random", layers=True, seed=3)
    torch.manual_seed(3)
    model = timm.create_model(name, num_classes=0).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    batch = torch.stack([transform(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in x])
    seen: dict[str, torch.Tensor] = {}
    model.get_submodule(FAMILIES[name]).register_forward_hook(lambda _, __, out: seen.update(last=out))
    with torch.inference_mode():
        wanted = model(batch)
    found = made(x)
    torch.testing.assert_close(found[:, made.features], wanted, rtol=1e-5, atol=1e-5)
    last = seen["last"]
    pooled = last.mean((1, 2)) if name.startswith("swin") else last.mean((2, 3)) if last.ndim == 4 else last
    if last.ndim == 3:
        pooled = last[:, 0] if name.startswith("vit") else last.mean(1)
    torch.testing.assert_close(found[:, made.slices[FAMILIES[name]]], pooled, rtol=1e-5, atol=1e-5)
    assert made.trained_on == "nothing"


def test_registers_are_no_class_token():
    name = "vit_medium_patch16_reg4_gap_256"
    made = timm_features(name, weights="random", layers=True)
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0).eval()
    seen: list[torch.Tensor] = []
    model.blocks[3].register_forward_hook(lambda _, __, out: seen.append(out[:, 4:].mean(1)))
    x = noise(2)
    with torch.inference_mode():
        model(each(timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False))(x))
    torch.testing.assert_close(made(x)[:, made.slices["blocks.3"]], seen[0], rtol=1e-5, atol=1e-5)


def test_equal_seeds_draw_equal_weights_and_others_do_not():
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    made = [timm_features("resnet18", weights="random", seed=seed).fingerprint for seed in (0, 0, 1)]
    assert made[0] == made[1] != made[2]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_weights_from_a_file_lose_their_classifier(tmp_path):
    torch.manual_seed(1)
    model = timm.create_model("resnet18").eval()
    save_file(model.state_dict(), tmp_path / "mine.safetensors")
    torch.save(model.state_dict(), tmp_path / "mine.pth")
    x = noise(2)
    found = [timm_features("resnet18", weights=tmp_path / f"mine.{kind}") for kind in ("safetensors", "pth")]
    assert torch.equal(found[0](x), found[1](x))
    assert found[0].trained_on == "unknown"
    assert "mine.safetensors" in found[0].protocol
    with torch.inference_mode():
        model.reset_classifier(0)
        transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
        torch.testing.assert_close(found[0](x), model(each(transform)(x)), rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match="does not hold the weights of resnet34"):
        timm_features("resnet34", weights=tmp_path / "mine.pth")


def test_a_file_that_is_none_or_a_program_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        timm_features("resnet18", weights=tmp_path / "none.pth")
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")  # a pickle
    with pytest.raises(InputError, match="damaged"):
        timm_features("resnet18", weights=tmp_path / "module.pth")
    torch.save({}, tmp_path / "empty.pth")
    with pytest.raises(InputError, match="it is no state dict"):
        timm_features("resnet18", weights=tmp_path / "empty.pth")
    torch.save({"x": torch.zeros(2)}, tmp_path / "x-0123456789abcdef.pth")
    with pytest.raises(InputError, match="its SHA-256 is not the one in its name"):
        timm_features("resnet18", weights=tmp_path / "x-0123456789abcdef.pth")


def test_published_weights_are_looked_for_and_not_downloaded_unasked(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"model.safetensors of timm/resnet18.a1_in1k is not in .* --download"):
        timm_features("resnet18.a1_in1k")
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="timm has no model 'resnet81'; did you mean resnet"):
        timm_features("resnet81")


def test_a_trained_network_is_the_same_by_timm_and_by_its_own_package(tmp_path):
    """EfficientNet-Lite0: logits, features by timm's transform, and what it sees in two photographs."""
    save_file(efficientnet_lite.state(), tmp_path / "lite0.safetensors")
    made = timm_features("tf_efficientnet_lite0", weights=tmp_path / "lite0.safetensors")
    photographs = torch.stack([torch.from_numpy(image) for image in load_sample_images().images]).permute(0, 3, 1, 2)
    network = efficientnet_lite.original()
    transform = timm.data.create_transform((3, 224, 224), interpolation="bicubic", crop_pct=0.875, mean=(0.5,) * 3,
                                           std=(0.5,) * 3)  # fmt: skip
    with torch.inference_mode():
        batch = torch.stack([transform(Image.fromarray(x.permute(1, 2, 0).numpy())) for x in photographs])
        wanted = network.extract_features(batch).mean((2, 3))
        found = made(photographs)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
        logits = found @ network._fc.weight.T + network._fc.bias
        torch.testing.assert_close(logits, network(batch), rtol=1e-5, atol=1e-5)
    assert logits.topk(5)[1][0].eq(698).any()  # palace, as the roofs of a Chinese one
    assert logits.argmax(1)[1] in (985, 308, 309, 310)  # a daisy, or what sits on flowers


def test_models_with_two_classifiers_take_their_own_weights(tmp_path):
    name = "deit_tiny_distilled_patch16_224"
    torch.manual_seed(0)
    save_file(timm.create_model(name).state_dict(), tmp_path / "deit.safetensors")
    assert timm_features(name, weights=tmp_path / "deit.safetensors").dimensions == 192
    code, _, err = run(
        "classify", "--features", f"timm:{name},timm:resnet18", "--weights", tmp_path / "deit.safetensors"
    )
    assert code == 2
    assert "is of one network" in err


def test_the_command_takes_timm(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in "ab":
            (tmp_path / split / label).mkdir(parents=True)
            for i in range(4):
                Image.fromarray(rng.integers(0, 256, (32, 30, 3), dtype=np.uint8)).save(
                    tmp_path / split / label / f"{i}.png"
                )
    torch.manual_seed(0)
    save_file(timm.create_model("resnet10t").state_dict(), tmp_path / "w.safetensors")
    code, out, err = run("classify", "--data", tmp_path, "--features", "timm:resnet10t", "--weights",
                         tmp_path / "w.safetensors", "--folds", "2", "--per-layer", "--C", "1e-3")  # fmt: skip
    assert code == 0, err
    assert "timm:resnet10t" in out
    assert "layer4" in out
    assert "by timm's own transform" in out
