"""Images, videos and documents as pixels."""

DPI = 144
"""Dots per inch at which PDF pages are drawn: one of letter size then has 1224 x 1584 pixels, as a screen."""
