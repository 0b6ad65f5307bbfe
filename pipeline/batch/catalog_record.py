"""Catalog items as plain values: what the ledger keeps of them, so that a worker need not search again."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

import shapely

from ...datasets.catalog_items import AssetBand, CatalogAsset, CatalogItem
from ...datasets.pairing import Acquisition
from ...datasets.sensors import Sensor
from ..acquire_sensor import wanted_assets


def acquisition_record(acquisition: Acquisition, sensor: Sensor) -> dict[str, Any]:
    """Return an acquisition as JSON values, with the files alone that the sensor needs."""
    return {
        "acquired": acquisition.acquired.isoformat(), "coverage": acquisition.coverage, "cloud": acquisition.cloud,
        "items": [_item(item, sensor) for item in acquisition.items],
    }  # fmt: skip


def read_acquisition(record: Mapping[str, Any]) -> Acquisition:
    """Return what :func:`acquisition_record` wrote."""
    return Acquisition(
        items=tuple(_read_item(item) for item in record["items"]), coverage=record["coverage"],
        acquired=datetime.fromisoformat(record["acquired"]), cloud=record["cloud"],
    )  # fmt: skip


def _item(item: CatalogItem, sensor: Sensor) -> dict[str, Any]:
    return {
        "id": item.id, "collection": item.collection, "acquired": item.acquired.isoformat(), "cloud": item.cloud,
        "footprint": shapely.to_wkt(item.footprint, rounding_precision=6), "properties": dict(item.properties),
        "href": item.href,
        "assets": {key: asdict(asset) for key, asset in wanted_assets(item, sensor).items()},
    }  # fmt: skip


def _read_item(record: Mapping[str, Any]) -> CatalogItem:
    assets = {
        key: replace(
            CatalogAsset(**{**asset, "roles": tuple(asset["roles"])}),
            bands=tuple(AssetBand(**band) for band in asset["bands"]),
        )
        for key, asset in record["assets"].items()
    }
    return CatalogItem(
        id=record["id"], collection=record["collection"], acquired=datetime.fromisoformat(record["acquired"]),
        footprint=shapely.from_wkt(record["footprint"]), cloud=record["cloud"], properties=record["properties"],
        assets=assets, href=record["href"],
    )  # fmt: skip
