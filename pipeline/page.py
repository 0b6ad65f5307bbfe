"""Page: one HTML file from a template, which needs no other file and no network."""

from typing import Any

import jinja2


def rendered(template: str, **values: Any) -> str:
    """Fill a template.

    Parameters
    ----------
    template
        File under ``templates/``; it may include others of them.
    values
        Text is escaped; a name that the template wants and is not given is an error.

    Returns
    -------
    The page.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("equipoise.pipeline", "templates"), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True,
    )  # fmt: skip
    return environment.get_template(template).render(**values)
