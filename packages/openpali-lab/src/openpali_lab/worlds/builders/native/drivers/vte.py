"""A terminal of VTE, the widget of GNOME's, Xfce's and other terminals."""

import time

import gi
from common import serve

gi.require_version("Gdk", "3.0")
gi.require_version("Gtk", "3.0")
gi.require_version("Vte", "2.91")
from gi.repository import Gdk, GLib, Gtk, Pango, Vte  # noqa: E402

WINDOWS = []


def colour(text):
    found = Gdk.RGBA()
    found.parse(text)
    return found


class Cells:
    """Where the grid of a terminal is on the screen, in pixels."""


def settle(seconds):
    end, context = time.time() + seconds, GLib.MainContext.default()
    while time.time() < end or context.pending():
        if not context.iteration(False):
            time.sleep(0.002)


def show(request):
    for window in WINDOWS:
        window.destroy()
    WINDOWS.clear()
    settings = Gtk.Settings.get_default()
    for name, value in request["gtk"].items():
        if settings.find_property(name):
            settings.set_property(name, value)
    window, terminal = Gtk.Window(), Vte.Terminal()
    WINDOWS.append(window)
    window.add(terminal)
    terminal.set_size(request["columns"], request["rows"])
    terminal.set_font(Pango.FontDescription.from_string(request["font"]))
    terminal.set_colors(
        colour(request["ink"]), colour(request["ground"]), [colour(each) for each in request["palette"]]
    )
    terminal.set_cursor_blink_mode(Vte.CursorBlinkMode.OFF)
    window.move(20, 20)
    window.show_all()
    terminal.feed(request["text"].encode())
    settle(0.15)
    cells = Cells()
    _, x, y = terminal.get_window().get_origin()
    pad = terminal.get_style_context().get_padding(Gtk.StateFlags.NORMAL)
    wide, high = window.get_size()
    cells.windows = [[x, y, x + wide, y + high]]
    cells.at = [x + pad.left, y + pad.top]
    cells.cell = [terminal.get_char_width(), terminal.get_char_height()]
    return cells


serve(show)
