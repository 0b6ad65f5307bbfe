"""Foundation encoders: CROMA, DOFA, Panopticon and plain transformers as backbones, by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from torch import Tensor, nn

from .errors import ModelError, require, wanted
from .pretrained import downloaded_state, find_torchgeo_weights
from .pyramid import FeaturePyramid, ImagePadding
from .transformers import CromaTokens, DofaTokens, TimmTokens


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """What a name of a foundation encoder stands for.

    Attributes
    ----------
    family
        ``croma``, ``dofa``, ``panopticon`` or ``vit``.
    sizes
        Keywords of the family's module.
    weights
        torchgeo's enum of weights that fit.
    """

    family: str
    sizes: Mapping[str, Any] = field(default_factory=dict)
    weights: str = ""


#: Names of encoders beside those of segmentation-models-pytorch.
FOUNDATION: dict[str, Transformer] = {
    "croma_base": Transformer(family="croma", sizes={"width": 768, "depth": 12}, weights="CROMABase_Weights"),
    "croma_large": Transformer(family="croma", sizes={"width": 1024, "depth": 24}, weights="CROMALarge_Weights"),
    "dofa_base": Transformer(
        family="dofa", sizes={"width": 768, "depth": 12, "heads": 12}, weights="DOFABase16_Weights"
    ),
    "dofa_large": Transformer(
        family="dofa", sizes={"width": 1024, "depth": 24, "heads": 16}, weights="DOFALarge16_Weights"
    ),
    "panopticon_base": Transformer(
        family="panopticon", sizes={"name": "vit_base_patch14_dinov2"}, weights="Panopticon_Weights"
    ),
    "vit_small": Transformer(family="vit", sizes={"name": "vit_small_patch16_224"}, weights="ViTSmall16_Weights"),
    "vit_base": Transformer(family="vit", sizes={"name": "vit_base_patch16_224"}, weights="ViTBase16_Weights"),
}

#: Families that tell bands apart by wavelength.
BY_WAVELENGTH = ("dofa", "panopticon")

_CROMA_BANDS = {12: "s2_encoder", 2: "s1_encoder"}
_POLARISATIONS = (-1.0, -2.0, -3.0, -4.0)


class FoundationEncoder(nn.Module):
    """A pre-trained transformer and a pyramid over its tokens, with the interface of other backbones.

    Parameters
    ----------
    name
        A key of :data:`FOUNDATION`.
    in_channels
        Number of bands.
    depth
        Number of strides.
    weights
        Name of torchgeo's weights, which are downloaded; None begins at random.
    wavelengths
        nm, one a band, or -1 to -4 for the polarisations VV, VH, HH, HV; what DOFA and Panopticon need.

    Raises
    ------
    ModelError
        The bands, their wavelengths or the weights do not fit the name, or weights cannot be downloaded.
    """

    def __init__(
        self, name: str, *, in_channels: int, depth: int, weights: str | None = None,
        wavelengths: Sequence[float] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        chosen = FOUNDATION[name]
        if weights is not None:
            _check_weights(weights, chosen, name=name, in_channels=in_channels)
        self.tokens = _build_tokens(chosen, name=name, in_channels=in_channels, wavelengths=wavelengths)
        if weights is not None:
            state = downloaded_state(find_torchgeo_weights(weights), weights)
            _fill(self.tokens.vit, state, family=chosen.family, in_channels=in_channels, name=weights)
        width = chosen.sizes.get("width") or self.tokens.vit.embed_dim
        patch = self.tokens.patch
        self.padding = ImagePadding(patch, depth=depth)
        self.pyramid = FeaturePyramid(width, scale=patch.bit_length() - 1, depth=depth)
        self.out_channels = [in_channels, *self.pyramid.widths]

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return maps at strides 1 (the image itself), 2, 4, ...; y and x are multiples of ``2 ** depth``."""
        rows, columns = image.shape[-2:]
        maps = self.pyramid(self.tokens(self.padding(image)))
        if self.padding.whole:
            return [image, *maps]
        return [image, *(part[..., : rows >> k, : columns >> k] for k, part in enumerate(maps, start=1))]


def _build_tokens(
    chosen: Transformer, *, name: str, in_channels: int, wavelengths: Sequence[float]
) -> CromaTokens | DofaTokens | TimmTokens:
    sizes = dict(chosen.sizes)
    if chosen.family in BY_WAVELENGTH:
        _check_wavelengths(wavelengths, name=name, in_channels=in_channels)
    if chosen.family == "croma":
        require(
            in_channels in _CROMA_BANDS, f"{in_channels} bands for encoder {name!r}",
            "12 (Sentinel-2 B1 to B12 without B10) or 2 (Sentinel-1 VV, VH)",
            "give the modality these bands, or choose another encoder",
        )  # fmt: skip
        layers = sizes["depth"] if in_channels == 12 else sizes["depth"] // 2
        return CromaTokens(in_channels, width=sizes["width"], depth=layers)
    if chosen.family == "dofa":
        return DofaTokens(wavelengths, **sizes)
    return TimmTokens(in_channels, wavelengths=wavelengths if chosen.family == "panopticon" else None, **sizes)


def _check_wavelengths(wavelengths: Sequence[float], *, name: str, in_channels: int) -> None:
    fits = len(wavelengths) == in_channels and all(value > 0 or value in _POLARISATIONS for value in wavelengths)
    require(
        fits, f"wavelengths {tuple(wavelengths)} for {in_channels} bands of encoder {name!r}",
        "nm, one a band, or a polarisation (VV, VH, HH, HV) as the name of a radar band",
        "give `wavelengths_nm` of this modality",
    )  # fmt: skip


def _check_weights(weights: str, chosen: Transformer, *, name: str, in_channels: int) -> None:
    """Compare a name of weights with an encoder; nothing is downloaded."""
    require(
        weights.partition(".")[0] == chosen.weights, f"weights {weights!r} for encoder {name!r}",
        f"a member of {chosen.weights}", "change the encoder of this modality, or its weights",
    )  # fmt: skip
    bands = find_torchgeo_weights(weights).meta.get("in_chans", in_channels)
    require(
        bands == in_channels, f"{in_channels} bands for weights {weights}", f"{bands}",
        "give the modality these bands in their order, or choose other weights",
    )  # fmt: skip


def _fill(vit: nn.Module, state: dict[str, Any], *, family: str, in_channels: int, name: str) -> None:
    """Copy downloaded tensors into a transformer; heads and what training made on its own may be missing."""
    if family == "croma":
        state = cast("dict[str, Any]", state.get(_CROMA_BANDS[in_channels], {}))
    state = {key.replace("conv3d.conv3d.", "conv3d."): value for key, value in state.items()}
    state = {key: value.squeeze(2) if value.ndim == 5 else value for key, value in state.items()}
    own = vit.state_dict()
    known = {key for key, value in state.items() if key in own and own[key].shape == value.shape}
    # DOFA's last normalisation belongs to its classifier; plain transformers of masked autoencoders have none either.
    missing = {key for key in set(own) - known if not key.startswith(("fc_norm.", "norm."))}
    if missing:
        raise ModelError(
            wanted(
                f"{len(missing)} tensors that weights {name} lack or have in another shape, first {min(missing)!r}",
                "all of the encoder's", "choose other weights or another encoder",
            )
        )  # fmt: skip
    vit.load_state_dict({key: state[key] for key in known}, strict=False)
