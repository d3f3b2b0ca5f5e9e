"""The parts of a bundle that read screens and pages."""

FINDER = "finder"  # finds lines of text
READER = "reader"  # reads them
ELEMENTS = "elements"  # finds elements, such as buttons
ICONS = "icons"  # names icons
WORDS = (FINDER, READER)
PAGES = (*WORDS, ELEMENTS, ICONS)
