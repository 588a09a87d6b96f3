"""Floors of exposure: what slates owe to parts of the catalogue, and how slots are drawn where they do."""
