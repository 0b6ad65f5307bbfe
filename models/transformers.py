"""Vision transformers that were pre-trained on Earth observation, each from an image to one map of tokens."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_C_BAND = 5.405  # GHz: DOFA's authors give this number as the wavelength of Sentinel-1
_WINDOW = 224  # px, of the images that DOFA and the plain transformers were trained on
_DINO_WINDOW = 518  # px, likewise for the positions of Panopticon's weights


class CromaTokens(nn.Module):
    """One encoder of CROMA (Fuller et al., NeurIPS 2023): Sentinel-2 or Sentinel-1, patches of 8 px.

    Attention falls with distance (2D ALiBi), so that any window size does; the joint encoder is left out, since
    modalities are fused later and may be missing.

    Parameters
    ----------
    in_channels
        12 (Sentinel-2 without cirrus) or 2 (VV, VH).
    width, depth
        Of the transformer; radar has half the layers.
    """

    patch = 8

    def __init__(self, in_channels: int, *, width: int, depth: int) -> None:
        super().__init__()
        from torchgeo.models.croma import ViT

        self.vit: Any = ViT(dim=width, depth=depth, in_channels=in_channels)
        ratio = 2 ** -(8 / self.vit.num_heads)
        slopes = torch.tensor([ratio ** (1 + head) for head in range(self.vit.num_heads)])
        self.register_buffer("slopes", slopes, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return (batch, channel, y / 8, x / 8)."""
        project = self.vit.linear_input
        kernel = project.weight.view(project.weight.shape[0], -1, self.patch, self.patch)
        tokens = F.conv2d(image, kernel, project.bias, stride=self.patch)
        rows, columns = tokens.shape[-2:]
        bias = distance_bias(rows, columns, slopes=self.get_buffer("slopes"))
        return _map(self.vit.transformer(_sequence(tokens), relative_position_bias=bias), rows, columns)


class DofaTokens(nn.Module):
    """DOFA (Xiong et al., 2024): kernels of the patch embedding are generated from each band's wavelength.

    Parameters
    ----------
    wavelengths
        nm, one a band; negative for C-band radar, whose number is the one that the authors use.
    width, depth, heads
        Of the transformer.
    """

    patch = 16

    def __init__(self, wavelengths: Sequence[float], *, width: int, depth: int, heads: int) -> None:
        super().__init__()
        from torchgeo.models import DOFA

        self.vit: Any = DOFA(embed_dim=width, depth=depth, num_heads=heads, num_classes=0)
        self.vit.pos_embed.data.copy_(_sine_positions(width, _WINDOW // self.patch))
        microns = [_C_BAND if value < 0 else value / 1000 for value in wavelengths]
        self.register_buffer("wavelengths", torch.tensor(microns), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return (batch, channel, y / 16, x / 16)."""
        rows, columns = (length // self.patch for length in image.shape[-2:])
        tokens, _ = self.vit.patch_embed(image, self.get_buffer("wavelengths"))
        tokens = _with_class_token(self.vit, tokens, rows=rows, columns=columns)
        for block in self.vit.blocks:
            tokens = block(tokens)
        return _map(self.vit.fc_norm(tokens[:, 1:]), rows, columns)


class TimmTokens(nn.Module):
    """A vision transformer of timm: plain ones of torchgeo's weights, and Panopticon (Waldmann et al., 2025).

    Panopticon attends across bands, which it knows by wavelength or polarisation. Its patches have 14 px; the image
    is scaled by 14/16 for it, so that they stand on cells of stride 16 (ours).

    Parameters
    ----------
    in_channels
        Number of bands.
    name
        Of the timm model.
    wavelengths
        None for a plain transformer; for Panopticon nm, or -1 to -4 for VV, VH, HH, HV, one a band.
    attention
        Width of Panopticon's attention across bands.
    sizes
        ``embed_dim``, ``depth`` and ``num_heads`` in place of those of the name.
    """

    patch = 16

    def __init__(
        self, in_channels: int, *, name: str, wavelengths: Sequence[float] | None = None, attention: int = 2304,
        **sizes: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        import timm

        self.scaled = wavelengths is not None
        window = _DINO_WINDOW if self.scaled else _WINDOW
        vit = cast("Any", timm.create_model(name, img_size=window, in_chans=in_channels, num_classes=0, **sizes))
        self.vit: Any = vit
        if wavelengths is not None:
            vit.patch_embed = BandEmbedding(wavelengths, width=int(vit.embed_dim), attention=attention)

    def forward(self, image: Tensor) -> Tensor:
        """Return (batch, channel, y / 16, x / 16)."""
        rows, columns = (length // self.patch for length in image.shape[-2:])
        if self.scaled:
            size = (rows * BandEmbedding.patch, columns * BandEmbedding.patch)
            image = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
            tokens = self.vit.patch_embed(image)
        else:
            tokens = _sequence(self.vit.patch_embed.proj(image))
        tokens = _with_class_token(self.vit, tokens, rows=rows, columns=columns)
        tokens = self.vit.norm(self.vit.blocks(self.vit.norm_pre(tokens)))
        return _map(tokens[:, 1:], rows, columns)


class BandEmbedding(nn.Module):
    """Panopticon's patch embedding for bands that are fixed: torchgeo's parameters without its look-up at run time.

    Parameters
    ----------
    wavelengths
        As in :class:`TimmTokens`.
    width
        Of the tokens.
    attention
        Of the attention across bands.
    """

    patch = 14

    def __init__(self, wavelengths: Sequence[float], *, width: int, attention: int) -> None:
        super().__init__()
        from torchgeo.models.panopticon import ChnAttn

        # torchgeo's is three-dimensional with a depth of 1, which the channels-last layout cannot hold.
        self.conv3d = nn.Conv2d(1, attention, self.patch, stride=self.patch)
        self.chnfus: Any = ChnAttn(dim=attention, attn_cfg={"num_heads": 16})
        nn.init.normal_(self.chnfus.query, std=0.02)
        self.proj = nn.Linear(attention, width)
        self.wavelengths = tuple(wavelengths)

    def forward(self, image: Tensor) -> Tensor:
        """Turn (batch, band, y, x) into tokens (batch, place, channel)."""
        batch, bands, rows, columns = image.shape
        patches = self.conv3d(image.reshape(batch * bands, 1, rows, columns)).flatten(2)
        seen = patches.reshape(batch, bands, *patches.shape[1:]).permute(0, 3, 1, 2) + self.identities()
        places = seen.shape[1]
        seen = seen.reshape(batch * places, bands, -1)
        query = self.chnfus.query.expand(batch * places, -1, -1)
        return cast("Tensor", self.proj(self.chnfus.xattn(query, seen, seen).reshape(batch, places, -1)))

    def identities(self) -> Tensor:
        """Return what tells the bands apart, (band, channel): sines of a wavelength, or learned polarisations."""
        from torchgeo.models.panopticon import get_1d_sincos_pos_embed_from_grid_torch

        known = self.chnfus.chnemb
        rows = []
        for value in self.wavelengths:
            if value < 0:
                sent, received = ((0, 0), (0, 1), (1, 1), (1, 0))[int(-value) - 1]
                parts = [known.embed_transmit[sent], known.embed_receive[received], known.embed_orbit.mean(dim=0)]
                rows.append(torch.cat(parts))
            else:
                place = torch.tensor([float(int(value))], device=known.embed_transmit.device)
                rows.append(get_1d_sincos_pos_embed_from_grid_torch(known.embed_dim, place)[0])
        return torch.stack(rows)


def distance_bias(rows: int, columns: int, *, slopes: Tensor) -> Tensor:
    """Return minus the distance of every two places, in cells, times a slope a head: (1, head, place, place)."""
    down = torch.arange(rows, device=slopes.device)[:, None].expand(rows, columns).reshape(-1)
    right = torch.arange(columns, device=slopes.device)[None, :].expand(rows, columns).reshape(-1)
    squares = (down[:, None] - down[None, :]) ** 2 + (right[:, None] - right[None, :]) ** 2
    return -(squares.to(slopes.dtype).sqrt()[None] * slopes[:, None, None])[None]


def _with_class_token(vit: Any, tokens: Tensor, *, rows: int, columns: int) -> Tensor:
    """Add positions, interpolated to the window, and put the class token first."""
    positions: Tensor = vit.pos_embed
    edge = round((positions.shape[1] - 1) ** 0.5)
    grid = positions[:, 1:].reshape(1, edge, edge, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", align_corners=False)
    first = (vit.cls_token + positions[:, :1]).expand(tokens.shape[0], -1, -1)
    return torch.cat([first, tokens + _sequence(grid)], dim=1)


def _sequence(maps: Tensor) -> Tensor:
    """Turn (batch, channel, y, x) into (batch, place, channel)."""
    return maps.flatten(2).transpose(1, 2)


def _map(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """Turn (batch, place, channel) into (batch, channel, y, x)."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, rows, columns)


def _sine_positions(width: int, edge: int) -> Tensor:
    """Return the fixed positions of masked autoencoders, (1, 1 + place, channel), zeros for the class token."""
    frequency = 10000.0 ** -(torch.arange(width // 4) / (width // 4))
    angles = torch.arange(edge)[:, None] * frequency
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    right = line[None, :].expand(edge, edge, -1)
    down = line[:, None].expand(edge, edge, -1)
    return torch.cat([torch.zeros(1, width), torch.cat([right, down], dim=2).reshape(edge * edge, width)])[None]
