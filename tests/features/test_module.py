"""Programs of the user's own: what they compute, what is refused, and that nothing is unpickled."""

import contextlib
import hashlib
import io
import json
import os
import pickle
import re
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._export.serde.schema import SCHEMA_VERSION

from dcgan_eval.features import extract, module_features
from dcgan_eval.features.extract import CPU_CHUNK
from dcgan_eval.images import from_tensor
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.run import Run

SHAPE = (1, 8, 8)


class Net(nn.Module):
    """Dropout, so that a program that was saved in training gives noise unless it is put into evaluation."""

    offset: torch.Tensor

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 5, 3)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("offset", torch.arange(5.0))

    def forward(self, x):
        return self.drop(self.conv(x.float() / 255).amax((2, 3)) + self.offset)


class Apply(nn.Module):
    """A function of the images as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def net():
    torch.manual_seed(0)
    return Net()


def noise(n, shape=SHAPE):
    return torch.randint(0, 256, (n, *shape), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def script(path, module):
    torch.jit.save(torch.jit.script(module), path)
    return path


def trace(path, function, example=None):
    torch.jit.save(torch.jit.trace(Apply(function), noise(2) if example is None else example), path)
    return path


def export(path, module, *, examples=3, dynamic=True):
    shapes = ({0: torch.export.Dim("n")},) if dynamic else None
    torch.export.save(torch.export.export(module.eval(), (noise(examples),), dynamic_shapes=shapes), path)
    return path


@pytest.mark.parametrize("name", ["net.pt", "net.pth", "net.ts", "net.pt2"])
def test_features_are_what_the_program_computes_whatever_the_batch(tmp_path, name):
    path = (export if name.endswith(".pt2") else script)(tmp_path / name, net().train())
    extractor = module_features(path, SHAPE)
    images = noise(2 * CPU_CHUNK + 1)  # a last part of one image
    with torch.no_grad():
        expected = net().eval()(images)
    for n in (1, 2, 5, CPU_CHUNK + 1, len(images)):
        torch.testing.assert_close(extractor(images[:n]), expected[:n], rtol=1e-5, atol=1e-6)
    for size in (1, 7, 100):
        found = extract(extractor, from_tensor(images, name="noise"), run=Run(batch_size=size))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert found.dtype == torch.float32
    assert expected.std(0).min() > 0.01
    assert (extractor.name, extractor.input_shape, extractor.dimensions) == ("module:net", SHAPE, 5)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert extractor.protocol == f"{name}, sha256 {sha256[:8]}, on uint8 images"


def test_the_fingerprint_is_of_the_content_and_the_shape(tmp_path):
    first, same = (script(tmp_path / name, net()) for name in ("a.pt", "b.pt"))
    same.write_bytes(first.read_bytes())
    assert module_features(first, SHAPE).fingerprint == module_features(same, SHAPE).fingerprint
    other = net()
    other.offset += 1
    different = [
        module_features(first, SHAPE),
        module_features(first, (1, 9, 8)),
        module_features(script(tmp_path / "c.pt", other), SHAPE),
    ]
    assert len({extractor.fingerprint for extractor in different}) == 3


def test_images_of_another_shape_are_refused(tmp_path):
    extractor = module_features(script(tmp_path / "net.pt", net()), SHAPE)
    with pytest.raises(InputError, match=r"module:net takes images of 1x8x8 .* but these are 1x9x9"):
        extractor(noise(2, (1, 9, 9)))


def test_other_floats_become_single(tmp_path):
    path = trace(tmp_path / "net.pt", lambda x: x.flatten(1).double() / 3)
    images = noise(3)
    assert torch.equal(module_features(path, SHAPE)(images), (images.flatten(1).double() / 3).float())


# what is refused


def refused(path, message=None):
    with pytest.raises(InputError, match=message) as caught:
        module_features(path, SHAPE)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


WRONG = {
    "integers": (lambda x: x.flatten(1), r"gives torch\.uint8 \(2, 64\) for 2 images; it must give floats"),
    "a vector": (lambda x: x.float().mean((1, 2, 3)), r"gives torch\.float32 \(2,\) for 2 images"),
    "maps": (lambda x: x.float(), r"gives torch\.float32 \(2, 1, 8, 8\) for 2 images"),
    "one row": (lambda x: x.float().flatten(1).mean(0, keepdim=True), r"gives torch\.float32 \(1, 64\) for 2 images"),
    "a pair": (lambda x: (x.float().flatten(1), x.float().flatten(1)), "gives tuple for 2 images"),
    "another shape": (lambda x: x.float().flatten(1) @ torch.zeros(81, 2), r"fails on [23] uint8 images of 1x8x8: \w"),
    "floats only": (lambda x: torch.conv2d(x, torch.zeros(1, 1, 3, 3)), r"fails on [23] uint8 images of 1x8x8: \w"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_programs_that_do_something_else(tmp_path, case):
    function, message = WRONG[case]
    example = {"another shape": noise(2, (1, 9, 9)), "floats only": noise(2).float()}.get(case, noise(2))
    refused(trace(tmp_path / "net.pt", function, example), message)


@pytest.mark.parametrize("case", ["always two rows", "no column", "a batch of two only"])
def test_programs_that_do_something_else_on_other_batches(tmp_path, case):
    if case == "always two rows":
        path = trace(tmp_path / "net.pt", lambda x: x[:2].flatten(1).float())
    elif case == "no column":
        path = trace(tmp_path / "net.pt", lambda x: x.flatten(1)[:, :0].float())
    else:
        path = export(tmp_path / "net.pt2", net(), examples=2, dynamic=False)
    refused(path)


def test_a_program_of_a_fixed_batch(tmp_path):
    refused(export(tmp_path / "net.pt2", net(), dynamic=False), "fails on [23] uint8 images .*dynamic")


def truncated(path):
    path.write_bytes(export(path, net()).read_bytes()[:-100])


def scripted_as_exported(path):
    script(path, net())


def exported_as_scripted(path):
    export(path, net())


KINDS = {
    "absent": ("net.pt", lambda p: None, "No such file"),
    "a folder": ("net.pt2", lambda p: p.mkdir(), "Is a directory"),
    "empty": ("net.pt", lambda p: p.write_bytes(b""), "not TorchScript"),
    "text": ("net.ts", lambda p: p.write_bytes(b"no\nprogram"), r"not TorchScript .*; write it with torch\.jit\.save"),
    "a state dict": ("net.pth", lambda p: torch.save(net().state_dict(), p), "not TorchScript"),
    "exported, but not .pt2": ("net.pt", exported_as_scripted, "not TorchScript"),
    "TorchScript called .pt2": ("net.pt2", scripted_as_exported, "not a program of this torch"),
    "an empty .pt2": ("net.pt2", lambda p: p.write_bytes(b""), r"not a program of this torch .*; export it again"),
    "a truncated .pt2": ("net.pt2", truncated, "not a program of this torch"),
}


@pytest.mark.parametrize("case", KINDS)
def test_files_of_another_kind(tmp_path, case):
    name, make, message = KINDS[case]
    make(tmp_path / name)
    refused(tmp_path / name, message)


def test_a_name_that_is_too_long():
    refused(Path("x" * 5000 + ".pt"))


# pickles


class Trap:
    """Unpickling this makes a folder."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def trapped(target):
    content = io.BytesIO()
    torch.save((Trap(target),), content)
    return content.getvalue()


def edited(path, change, **added):
    """An exported program whose members went through `change`, which maps a name and content to others."""
    content = export(path, net()).read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(path, "w") as out:
        for info in archive.infolist():
            out.writestr(*change(info.filename, archive.read(info)))
        for name, data in added.items():
            out.writestr(f"{info.filename.partition('/')[0]}/{name}", data)
    return path


def pickled_weights(path, trap):
    def change(name, data):
        if name.endswith("_weights_config.json"):
            config = json.loads(data)
            for entry in config["config"].values():
                entry["use_pickle"] = True
            return name, json.dumps(config)
        return name, trap if "/data/weights/weight_" in name else data

    edited(path, change)


def pickled_constants(path, trap):
    entry = {"path_name": "tensor_0", "is_param": False, "use_pickle": True, "tensor_meta": None}

    def change(name, data):
        return name, json.dumps({"config": {"c": entry}}) if name.endswith("_constants_config.json") else data

    edited(path, change, **{"data/constants/tensor_0": trap})


def older_weights(path, trap):
    edited(path, lambda *member: member, **{"data/weights/model.pt": trap})


def older_constants(path, trap):
    edited(path, lambda *member: member, **{"data/constants/model.pt": trap})


def custom_object(path, trap):
    edited(path, lambda *member: member, **{"data/constants/custom_obj_0": trap})


def example_inputs(path, trap):
    edited(path, lambda name, data: (name, trap if "/data/sample_inputs/" in name else data))


def other_case(path, trap):
    """PyTorch's reader of archives knows no difference between large and small letters."""
    edited(
        path,
        lambda name, data: (
            (name.replace("sample_inputs", "Sample_Inputs"), trap) if "/sample_inputs/" in name else (name, data)
        ),
    )


def line_break(path, trap):
    """The program may have another name than 'model'."""

    def change(name, data):
        return re.sub(r"/model(?=[._])", "/mod\nel", name), trap if "/sample_inputs/" in name else data

    edited(path, change)


def no_folder(path, trap):
    """What `torch.export.save` wrote until torch 2.7, and 2.11 still reads."""
    with zipfile.ZipFile(export(path, net())) as archive:
        program = next(archive.read(name) for name in archive.namelist() if name.endswith("/models/model.json"))
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("version", ".".join(map(str, SCHEMA_VERSION)))
        out.writestr("serialized_exported_program.json", program)
        for name in ("state_dict", "constants", "example_inputs"):
            out.writestr(f"serialized_{name}.pt", trap)


UNPICKLED = {
    pickled_weights: "holds pickled arrays, which are never read",
    pickled_constants: "holds pickled arrays, which are never read",
    older_weights: r"holds 'net/data/weights/model\.pt', which may be unpickled",
    older_constants: r"holds 'net/data/constants/model\.pt', which may be unpickled",
    custom_object: "holds 'net/data/constants/custom_obj_0', which may be unpickled",
}
SPRUNG = (no_folder, line_break, other_case)


@pytest.mark.parametrize("make", UNPICKLED)
def test_what_would_be_unpickled_is_refused(tmp_path, make):
    make(tmp_path / "net.pt2", trapped(tmp_path / "sprung"))
    refused(tmp_path / "net.pt2", UNPICKLED[make])
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("make", list(SPRUNG))
def test_edited_archives_are_not_unpickled_either(tmp_path, make):
    make(tmp_path / "net.pt2", trapped(tmp_path / "sprung"))
    with contextlib.suppress(InputError):
        module_features(tmp_path / "net.pt2", SHAPE)
    assert not (tmp_path / "sprung").exists()


def test_example_inputs_are_not_needed(tmp_path):
    example_inputs(tmp_path / "net.pt2", trapped(tmp_path / "sprung"))
    found = module_features(tmp_path / "net.pt2", SHAPE)(noise(3))
    assert not (tmp_path / "sprung").exists()
    torch.testing.assert_close(found, net().eval()(noise(3)).detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["net.pt", "net.pth", "net.ts", "net.pt2"])
@pytest.mark.parametrize("write", [torch.save, lambda trap, path: path.write_bytes(pickle.dumps(trap, protocol=2))])
def test_pickles_are_no_programs(tmp_path, name, write):
    write(Trap(tmp_path / "sprung"), tmp_path / name)
    refused(tmp_path / name, "not a program of this torch|not TorchScript")
    assert not (tmp_path / "sprung").exists()


def test_the_trap_is_one(tmp_path):
    torch.load(io.BytesIO(trapped(tmp_path / "sprung")), weights_only=False)
    assert (tmp_path / "sprung").exists()
