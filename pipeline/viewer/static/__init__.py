"""What the browser is given: the page, its style and scripts, and Leaflet 1.9.4 (BSD-2-Clause)."""
