"""The images themselves as features: the baseline that learnt ones must beat."""

from dcgan_eval.features.extract import Extractor, fingerprint


def pixel_features(shape: tuple[int, int, int]) -> Extractor:
    """x / 127.5 - 1 of images (C, H, W), flattened: values in [-1, 1], scaled as for a network with a tanh."""
    return Extractor(
        name="pixels",
        protocol="pixels as x / 127.5 - 1; float32",
        fingerprint=fingerprint({"extractor": "pixels", "shape": shape}),
        input_shape=shape,
        slices={"all": slice(0, shape[0] * shape[1] * shape[2])},
        on=lambda device: lambda images: (images.float() / 127.5 - 1).flatten(1),
        trained_on="nothing",
    )
