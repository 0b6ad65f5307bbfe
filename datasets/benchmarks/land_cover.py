"""Land cover schemes that SEN12MS and DFC2020 share: the 17 classes of the IGBP, and their simplification to ten."""

from .public_dataset import LabelClass

_IGBP = (
    ("evergreen needleleaf forest", (5, 69, 10)), ("evergreen broadleaf forest", (8, 106, 16)),
    ("deciduous needleleaf forest", (84, 167, 8)), ("deciduous broadleaf forest", (120, 210, 3)),
    ("mixed forest", (0, 153, 0)), ("closed shrubland", (198, 176, 68)), ("open shrubland", (220, 209, 89)),
    ("woody savanna", (218, 222, 72)), ("savanna", (251, 255, 19)), ("grassland", (182, 255, 5)),
    ("permanent wetland", (39, 255, 135)), ("cropland", (194, 79, 68)), ("urban and built-up", (165, 165, 165)),
    ("cropland and natural vegetation mosaic", (255, 109, 76)), ("permanent snow and ice", (105, 255, 248)),
    ("barren", (249, 255, 164)), ("water", (28, 13, 255)),
)  # fmt: skip

#: IGBP, values 1 to 17 as in MODIS MCD12Q1.
IGBP_CLASSES = tuple(
    LabelClass(value=value, name=name, colour=colour) for value, (name, colour) in enumerate(_IGBP, start=1)
)

_SIMPLIFIED = (
    ("forest", (0, 153, 0)), ("shrubland", (198, 176, 68)), ("savanna", (251, 255, 19)), ("grassland", (182, 255, 5)),
    ("wetland", (39, 255, 135)), ("cropland", (194, 79, 68)), ("urban", (165, 165, 165)),
    ("snow and ice", (105, 255, 248)), ("barren", (249, 255, 164)), ("water", (28, 13, 255)),
)  # fmt: skip

#: The ten classes of the 2020 Data Fusion Contest (Yokoya et al., IEEE GRSM 2020), values 1 to 10.
SIMPLIFIED_CLASSES = tuple(
    LabelClass(value=value, name=name, colour=colour) for value, (name, colour) in enumerate(_SIMPLIFIED, start=1)
)

#: IGBP value -> simplified value, as that contest joins them.
SIMPLIFIED_OF_IGBP = {
    1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 6: 2, 7: 2, 8: 3, 9: 3, 10: 4, 11: 5, 12: 6, 13: 7, 14: 6, 15: 8, 16: 9, 17: 10,
}  # fmt: skip
