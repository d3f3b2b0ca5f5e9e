"""Windows of GTK 3 or 4, which the argument says."""

import sys

import gi
from common import Truth, insert_rows, marked, meet, serve, settle, stem

FOUR = sys.argv[1] == "4"
gi.require_version("Gtk", "4.0" if FOUR else "3.0")
gi.require_version("Gdk", "4.0" if FOUR else "3.0")
from gi.repository import Gdk, GdkPixbuf, Gio, GLib, Gtk, Pango  # noqa: E402

if FOUR:
    from gi.repository import Graphene

    Gtk.init()
CSS = b".head { font-size: 150%; font-weight: bold } .mono { font-family: monospace } label.dim { opacity: .6 }"
SETTINGS, POPUPS, WINDOWS, TERMINALS = Gtk.Settings.get_default(), [], [], []
KEPT = []  # else Python forgets what it knows of a widget


def put(box, child, grow=False):
    (box.append if FOUR else box.add)(child)
    (child.set_vexpand if box.get_orientation() == Gtk.Orientation.VERTICAL else child.set_hexpand)(grow)


def hold(holder, child):
    (holder.set_child if FOUR else holder.add)(child)
    return holder


def styled(widget, name):
    widget.get_style_context().add_class(name)
    return widget


def label(text, style="", mnemonic=False):
    made = Gtk.Label(label=text, use_underline=mnemonic, xalign=0)
    if style in ("text", "note"):
        (made.set_wrap if FOUR else made.set_line_wrap)(True)
        made.set_max_width_chars(60)
    return styled(made, {"head": "head", "note": "dim"}.get(style, "plain"))


def picture(path):
    made = Gtk.Image.new_from_file(path)
    if FOUR:
        made.set_pixel_size(GdkPixbuf.Pixbuf.new_from_file(path).get_width())
    made.path = path
    KEPT.append(made)
    return made


def col(node, orientation=Gtk.Orientation.VERTICAL):
    made = Gtk.Box(orientation=orientation, spacing=node.get("gap", 6))
    for child in node["c"]:
        put(made, build(child), child.get("grow", False))
    if node.get("pad"):
        made.set_margin_top(node["pad"]), made.set_margin_bottom(node["pad"])
        made.set_margin_start(node["pad"]), made.set_margin_end(node["pad"])
    return made


def form(node):
    grid = Gtk.Grid(row_spacing=node.get("gap", 6), column_spacing=10)
    for i, (text, field) in enumerate(node["rows"]):
        grid.attach(label(text), 0, i, 1, 1)
        made = build(field)
        made.set_hexpand(bool(field.get("grow")))
        grid.attach(made, 1, i, 1, 1)
    return grid


def group(node):
    return hold(Gtk.Frame(label=node["text"]), col({**node, "pad": 8}))


def tabs(node):
    made = Gtk.Notebook()
    for i, title in enumerate(node["titles"]):
        page = col({"c": node["c"] if i == node["at"] else [], "pad": 8})
        page.show()
        made.append_page(page, label(title))
    made.set_current_page(node["at"])
    return made


def button(node, made=None):
    made = made or Gtk.Button()
    inner = Gtk.Box(spacing=6, halign=Gtk.Align.CENTER)
    if node.get("icon"):
        put(inner, picture(node["icon"]))
    if node.get("text") and not node.get("bare"):
        put(inner, label(marked(node, "_"), mnemonic=True))
    hold(made, inner)
    if node.get("flat"):
        made.set_has_frame(False) if FOUR else made.set_relief(Gtk.ReliefStyle.NONE)
    made.node = node
    KEPT.append(made)
    return made


def check(node):
    made = Gtk.CheckButton.new_with_mnemonic(marked(node, "_"))
    made.set_active(node["on"])
    made.set_halign(Gtk.Align.START)
    return made


def radio(node):
    if FOUR:
        made, other = Gtk.CheckButton.new_with_mnemonic(marked(node, "_")), Gtk.CheckButton()
        made.set_group(other)
        KEPT.append(other)
    else:
        other = Gtk.RadioButton()
        made = Gtk.RadioButton.new_with_mnemonic_from_widget(other, marked(node, "_"))
        KEPT.append(other)
    made.role = "radio"
    KEPT.append(made)
    (made if node["on"] else other).set_active(True)
    made.set_halign(Gtk.Align.START)
    return made


def switch(node):
    made, inner = Gtk.Box(spacing=8), Gtk.Switch(active=node["on"], valign=Gtk.Align.CENTER)
    put(made, label(node["text"]), grow=node.get("wide", False))
    put(made, inner)
    return made


def field(node):
    made = Gtk.SearchEntry() if node.get("search") else Gtk.Entry()
    made.set_text(node["text"])
    made.set_property("placeholder-text", node.get("hint", ""))
    made.set_width_chars(node.get("wide", 18))
    if node.get("secret"):
        made.set_visibility(False)
    return made


def combo(node):
    if FOUR:
        return Gtk.DropDown.new_from_strings(node["options"])
    made = Gtk.ComboBoxText()
    for text in node["options"]:
        made.append_text(text)
    made.set_active(0)
    return made


def spin(node):
    made = Gtk.SpinButton.new_with_range(-1e6, 1e6, 1)
    made.set_value(node["value"])
    return made


def slider(node):
    made = Gtk.Scale.new_with_range(Gtk.Orientation.HORIZONTAL, 0, 100, 1)
    made.set_value(node["value"])
    made.set_draw_value(node.get("drawn", False))
    made.set_size_request(140, -1)
    return made


def progress(node):
    made = Gtk.ProgressBar(fraction=node["value"] / 100, valign=Gtk.Align.CENTER)
    made.set_size_request(140, -1)
    return made


def scrolled(child):
    made = hold(Gtk.ScrolledWindow(), child)
    made.set_has_frame(True) if FOUR else made.set_shadow_type(Gtk.ShadowType.IN)
    made.set_property("overlay-scrolling", False)
    made.set_min_content_height(90)
    return made


def table(node):
    wide = max(map(len, node["rows"]))
    store = Gtk.TreeStore(GdkPixbuf.Pixbuf, *[str] * wide)
    load = GdkPixbuf.Pixbuf.new_from_file
    insert_rows(node, lambda row, cells, icon: store.append(row, [load(icon) if icon else None, *cells]))
    made = Gtk.TreeView(model=store, headers_visible=bool(node["head"]))
    for i in range(wide):
        column = Gtk.TreeViewColumn()
        column.set_title(node["head"][i] if node["head"] else "")
        if not i and any(node["icons"]):
            cell = Gtk.CellRendererPixbuf(xpad=2)
            column.pack_start(cell, False)
            column.add_attribute(cell, "pixbuf", 0)
        cell = Gtk.CellRendererText(xalign=float(i in node.get("right", ())))
        column.pack_start(cell, True)
        column.add_attribute(cell, "text", i + 1)
        made.append_column(column)
    made.expand_all()
    if node["selected"] >= 0:
        made.get_selection().select_path(node["selected"])
    made.node = node
    KEPT.append(made)
    return scrolled(made)


def text(node):
    view = Gtk.TextView(wrap_mode=Gtk.WrapMode.WORD, editable=not node.get("fixed"), left_margin=4, top_margin=3)
    view.get_buffer().set_text("\n".join(node["lines"]))
    if node.get("mono"):
        view.set_monospace(True)
    return scrolled(view)


def bar(node):
    made = Gtk.Box(spacing=2)
    for item in node["c"]:
        put(made, build(item) if item else Gtk.Separator(orientation=Gtk.Orientation.VERTICAL))
    return styled(made, "toolbar")


def menubar(node):
    if FOUR:
        model = Gio.Menu()
        for each in node["menus"]:
            model.append_submenu(marked(each, "_"), menu_model(each["items"]))
        made = Gtk.PopoverMenuBar.new_from_model(model)
    else:
        made = Gtk.MenuBar()
        for each in node["menus"]:
            item = Gtk.MenuItem.new_with_mnemonic(marked(each, "_"))
            item.set_submenu(menu(each["items"]))
            made.append(item)
    POPUPS.append((made, node["open"]))
    KEPT.append(made)
    return made


def menu_model(items):
    model, section = Gio.Menu(), Gio.Menu()
    for item in items:
        if item is None:
            model.append_section(None, section)
            section = Gio.Menu()
            continue
        off = item.get("off") or item.get("check") is not None
        made = Gio.MenuItem.new(marked(item, "_"), "x.off" if item.get("off") else "x.on" if off else "x.do")
        if item.get("accel"):
            made.set_attribute_value("accel", GLib.Variant.new_string(item["accel"]))
        section.append_item(made)
    model.append_section(None, section)
    return model


def menu(items):
    made = Gtk.Menu()
    for item in items:
        if item is None:
            made.append(Gtk.SeparatorMenuItem())
            continue
        each = Gtk.CheckMenuItem() if item.get("check") is not None else Gtk.MenuItem()
        if item.get("check"):
            each.set_active(True)
        inner = Gtk.Box(spacing=8)
        if item.get("icon"):
            put(inner, picture(item["icon"]))
        put(inner, label(marked(item, "_"), mnemonic=True), grow=True)
        if item.get("keys"):
            keys = label(item["keys"])
            keys.set_margin_start(16)
            put(inner, styled(keys, "dim"))
        each.add(inner)
        each.set_sensitive(not item.get("off"))
        made.append(each)
    made.show_all()
    return made


def status(node):
    made = Gtk.Box(spacing=12)
    for each in node["texts"]:
        put(made, label(each))
    return made


def link(node):
    made = Gtk.LinkButton.new_with_label("https://example.org", node["text"])
    made.set_halign(Gtk.Align.START)
    return made


def terminal(node):
    """A terminal of VTE, the widget of GNOME's, Xfce's and other terminals."""
    gi.require_version("Vte", "2.91")
    from gi.repository import Vte

    def colour(text):
        found = Gdk.RGBA()
        found.parse(text)
        return found

    made = Vte.Terminal()
    made.set_size(node["columns"], node["rows"])
    made.set_font(Pango.FontDescription.from_string(node["font"]))
    made.set_colors(colour(node["ink"]), colour(node["ground"]), [colour(each) for each in node["palette"]])
    made.set_cursor_blink_mode(Vte.CursorBlinkMode.OFF)
    made.feed(node["text"].encode())
    TERMINALS.append(made)
    return made


BUILD = {
    "col": col,
    "row": lambda node: col(node, Gtk.Orientation.HORIZONTAL),
    "form": form, "group": group, "tabs": tabs, "button": button, "check": check, "radio": radio, "switch": switch,
    "field": field, "combo": combo, "spin": spin, "slider": slider, "progress": progress, "table": table,
    "text": text, "bar": bar, "menubar": menubar, "status": status, "link": link, "terminal": terminal,
    "label": lambda node: label(node["text"], node.get("style", "")),
    "toggle": lambda node: button(node, Gtk.ToggleButton(active=node["on"])),
    "icon": lambda node: picture(node["icon"]),
    "space": lambda node: Gtk.Box(),
}  # fmt: skip


def build(node):
    made = BUILD[node["k"]](node)
    if node.get("off"):
        made.set_sensitive(False)
    return made


def draw():
    settle(0.13, lambda: GLib.MainContext.default().iteration(False))


# ---- what is where


def children(widget):
    if FOUR:
        child = widget.get_first_child()
        while child:
            yield child
            child = child.get_next_sibling()
    elif isinstance(widget, Gtk.Container):
        found = []
        widget.forall(found.append)
        yield from found


def origin(widget):
    """Where its own (0, 0) is on the screen."""
    if not FOUR:
        top = widget.get_toplevel()
        at = widget.translate_coordinates(top, 0, 0)
        _, x, y = top.get_window().get_origin()
        return x + at[0], y + at[1]
    native, x, y = widget.get_native(), 0, 0
    _, point = widget.compute_point(native, Graphene.Point())
    shift = native.get_surface_transform()
    surface = native.get_surface()
    while isinstance(surface, Gdk.Popup):
        x, y, surface = x + surface.get_position_x(), y + surface.get_position_y(), surface.get_parent()
    return x + point.x + shift[0], y + point.y + shift[1]


def box_of(widget):
    x, y = origin(widget)
    if FOUR:  # a widget's own (0, 0) is within its border
        bounds = widget.compute_bounds(widget)[1]
        x, y = x + bounds.get_x(), y + bounds.get_y()
        return [x, y, x + bounds.get_width(), y + bounds.get_height()]
    return [x, y, x + widget.get_allocated_width(), y + widget.get_allocated_height()]


def font(context):
    """Size in pixels, and the share of a line's height that is above its baseline."""
    description, metrics = context.get_font_description(), context.get_metrics(None, None)
    size = description.get_size() / Pango.SCALE
    if not description.get_size_is_absolute():
        size *= SETTINGS.get_property("gtk-xft-dpi") / 1024 / 72
    return size, metrics.get_ascent() / (metrics.get_ascent() + metrics.get_descent())


def add_layout(truth, clip, layout, x, y, size):
    whole, rows, cut = layout.get_text().encode(), layout.get_iter(), layout.is_ellipsized()
    while True:
        line = rows.get_line_readonly()
        piece = whole[line.start_index : line.start_index + line.length].decode()

        def at(i, piece=piece, start=line.start_index, line=line):
            return x + line.index_to_x(start + len(piece[:i].encode()), False) / Pango.SCALE + offset

        offset = rows.get_line_extents()[1].x / Pango.SCALE
        truth.text(clip, piece, at, y + rows.get_baseline() / Pango.SCALE, size, cut=cut)
        if not rows.next_line():
            return


def add_icon(truth, clip, path, x, y):
    """An icon by its centre."""
    pixbuf = GdkPixbuf.Pixbuf.new_from_file(path)
    wide, high = pixbuf.get_width() / 2, pixbuf.get_height() / 2
    truth.icon(clip, stem(path), [x - wide, y - high, x + wide, y + high])


def add_rows(truth, clip, tree):
    model, (size, _), (ox, oy) = tree.get_model(), font(tree.get_pango_context()), origin(tree)
    for column in tree.get_columns():
        head = column.get_button()
        if tree.get_headers_visible() and head.get_mapped():
            truth.element(clip, "columnheader", column.get_title(), box_of(head))
    rows = []
    model.foreach(lambda model, path, place: rows.append((path.copy(), place.copy())) and None)
    for path, place in rows:
        for column in tree.get_columns():
            area = tree.get_cell_area(path, column)
            left, top = tree.convert_bin_window_to_widget_coords(area.x, area.y)
            seen = meet(clip, [ox + left, oy + top, ox + left + area.width, oy + top + area.height])
            if tree.get_headers_visible():
                seen = meet(seen, [-9e9, box_of(column.get_button())[3], 9e9, 9e9])
            column.cell_set_cell_data(model, place, False, False)
            for cell in column.get_cells():
                start, width = column.cell_get_position(cell)[-2:]
                x, pad = ox + left + start, cell.get_padding()[0]
                if isinstance(cell, Gtk.CellRendererPixbuf):
                    icon = tree.node["icons"][[str(p) for p, _ in rows].index(str(path))]
                    if icon:
                        add_icon(truth, seen, icon, x + width / 2, oy + top + area.height / 2)
                    continue
                layout = tree.create_pango_layout(cell.get_property("text"))
                wide, high = layout.get_pixel_size()
                x = ox + left + area.width - pad - wide if cell.get_alignment()[0] else x + pad
                add_layout(truth, seen, layout, x, oy + top + (area.height - high) // 2, size)


def add_view(truth, clip, view):
    buffer, (size, share), (ox, oy) = view.get_buffer(), font(view.get_pango_context()), origin(view)
    area = view.get_visible_rect()
    start = view.get_iter_at_location(area.x, area.y)
    start = start[1] if isinstance(start, tuple) else start
    while not start.is_end():
        line = view.get_iter_location(start)
        if line.y > area.y + area.height:
            break
        end = start.copy()
        if not view.forward_display_line(end):
            end = buffer.get_end_iter()
        piece = buffer.get_text(start, end, True).rstrip("\n")
        places = []
        for i in range(len(piece) + 1):
            here = start.copy()
            here.forward_chars(i)
            place = view.get_iter_location(here)
            # the place of the end of a wrapped line is the start of the next
            places.append(place.x if place.y == line.y else places[-1])
        x, y = view.buffer_to_window_coords(Gtk.TextWindowType.WIDGET, 0, line.y)
        truth.text(clip, piece, lambda i, p=places, x=x: ox + x + p[i], oy + y + share * line.height, size)
        start = end


ROLES = [
    ("LinkButton", "link"), ("MenuItem", "menuitem"), ("ModelButton", "menuitem"), ("RadioButton", "radio"),
    ("CheckButton", "checkbox"), ("ComboBox", "combobox"), ("DropDown", "combobox"), ("SpinButton", "textbox"),
    ("SearchEntry", "textbox"), ("Entry", "textbox"), ("Switch", "switch"), ("Scale", "slider"),
    ("ProgressBar", "progressbar"), ("Button", "button"), ("TextView", "textbox"),
]  # fmt: skip
ROLES = [(getattr(Gtk, name), role) for name, role in ROLES if hasattr(Gtk, name)]
SKIPPED = ("combobox", "columnheader")  # elements whose own buttons are not told


def texts_in(widget):
    if isinstance(widget, Gtk.Label):
        yield widget.get_text()
    for child in children(widget):
        if not (FOUR and isinstance(child, Gtk.Popover)):  # what opens
            yield from texts_in(child)


def name_of(widget):
    node = getattr(widget, "node", None)
    if node and "text" in node:
        return node["text"]
    return " ".join(texts_in(widget)).strip()


def walk(truth, widget, clip, within="", top=None):
    if not widget.get_mapped():
        return
    if FOUR and isinstance(widget, Gtk.Popover) and widget is not top:
        return  # shown later, as a window of its own
    box = box_of(widget)
    clip = meet(clip, box) if not isinstance(widget, Gtk.Label) else clip
    role = next((role for kind, role in ROLES if isinstance(widget, kind)), "")
    if widget.get_css_name() == "modelbutton" or (FOUR and isinstance(widget.get_parent(), Gtk.PopoverMenuBar)):
        role = "menuitem"
    if role == "checkbox" and (getattr(widget, "role", "") or (FOUR and "radio" in widget.get_css_name())):
        role = "radio"
    if role and within not in SKIPPED and not (within == "textbox" and role == "textbox"):
        name = name_of(widget) if role != "textbox" else ""
        if not (isinstance(widget, Gtk.SeparatorMenuItem if not FOUR else ())):
            truth.element(clip, role, name, box)
    if isinstance(widget, Gtk.TreeView):
        add_rows(truth, clip, widget)
        within = "columnheader"
    elif isinstance(widget, Gtk.TextView):
        add_view(truth, clip, widget)
        return
    elif isinstance(widget, Gtk.Label) or (not FOUR and isinstance(widget, Gtk.Scale) and widget.get_draw_value()):
        x, y = widget.get_layout_offsets()
        left, top = origin(widget) if FOUR else widget.get_window().get_origin()[1:]
        add_layout(truth, clip, widget.get_layout(), x + left, y + top, font(widget.get_pango_context())[0])
    elif FOUR and isinstance(widget, Gtk.Text):
        size, share = font(widget.get_pango_context())
        shown = widget.get_text() if widget.get_visibility() else ""
        places = [widget.compute_cursor_extents(i)[0] for i in range(len(shown) + 1)]
        line, (left, top) = places[0], origin(widget)
        down = top + line.origin.y + share * line.size.height
        truth.text(clip, shown, lambda i: left + places[i].origin.x, down, size)
    elif not FOUR and isinstance(widget, Gtk.Entry) and widget.get_visibility():
        x, y = widget.get_layout_offsets()
        size = font(widget.get_pango_context())[0]
        add_layout(truth, clip, widget.get_layout(), box[0] + x, box[1] + y, size)
    elif isinstance(widget, Gtk.CellView):
        layout = widget.create_pango_layout(widget.get_model()[widget.get_displayed_row()][0])
        y = box[1] + (box[3] - box[1] - layout.get_pixel_size()[1]) // 2
        add_layout(truth, clip, layout, box[0], y, font(widget.get_pango_context())[0])
    elif isinstance(widget, Gtk.Image) and getattr(widget, "path", ""):
        add_icon(truth, clip, widget.path, (box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    elif isinstance(widget, Gtk.Notebook):
        for i in range(widget.get_n_pages()):
            title = widget.get_tab_label(widget.get_nth_page(i))
            x0, y0, x1, y1 = box_of(title.get_parent() if FOUR else title)
            tab = [x0, y0, x1, y1] if FOUR else [x0 - 12, y0 - 4, x1 + 12, y1 + 4]
            truth.element(clip, "tab", title.get_text(), tab)
    for child in children(widget):
        walk(truth, child, clip, role or within)


def show(request):
    for window in WINDOWS:
        window.destroy()
    for kept in (WINDOWS, POPUPS, KEPT, TERMINALS):
        kept.clear()
    for name, value in request["look"]["gtk"].items():
        if SETTINGS.find_property(name):
            SETTINGS.set_property(name, value)
    window = Gtk.Window(title=request["title"])
    WINDOWS.append(window)
    window.set_default_size(request["width"], request["height"])
    if FOUR:
        group = Gio.SimpleActionGroup()
        group.add_action(Gio.SimpleAction.new("do"))
        off = Gio.SimpleAction.new("off")
        off.set_enabled(False)
        group.add_action(off)
        group.add_action(Gio.SimpleAction.new_stateful("on", None, GLib.Variant.new_boolean(True)))
        window.insert_action_group("x", group)
    content = build(request["tree"])
    if request.get("bar"):
        header = Gtk.HeaderBar()
        (header.set_title_widget if FOUR else header.set_custom_title)(label(request["title"]))
        header.pack_start(button(request["bar"]))
        window.set_titlebar(header)
    hold(window, content)
    if FOUR:
        window.present()
    else:
        window.move(*request["at"])
        window.show_all()
    draw()
    opened = None
    for bar, number in POPUPS:
        if number >= 0 and FOUR:
            item = [*children(bar)][number]
            opened = next(child for child in children(item) if isinstance(child, Gtk.Popover))
            opened.popup()
        elif number >= 0:
            item = bar.get_children()[number]
            opened = item.get_submenu()
            opened.popup_at_widget(item, Gdk.Gravity.SOUTH_WEST, Gdk.Gravity.NORTH_WEST, None)
            WINDOWS.append(opened)
        draw()
    truth = Truth(window.get_scale_factor())
    truth.window(box_of(window))
    for shown in TERMINALS:
        _, x, y = shown.get_window().get_origin()
        pad = shown.get_style_context().get_padding(Gtk.StateFlags.NORMAL)
        truth.grid = [[x + pad.left, y + pad.top], [shown.get_char_width(), shown.get_char_height()]]
    walk(truth, window, box_of(window))
    if opened and opened.get_mapped():
        top = opened if FOUR else opened.get_toplevel()
        shown = box_of(opened.get_first_child() if FOUR else top)
        truth.window(shown)
        walk(truth, top, shown, top=top)
    return truth


provider = Gtk.CssProvider()
provider.load_from_data(CSS.decode() if FOUR else CSS)
if FOUR:
    Gtk.StyleContext.add_provider_for_display(Gdk.Display.get_default(), provider, 600)
else:
    Gtk.StyleContext.add_provider_for_screen(Gdk.Screen.get_default(), provider, 600)
serve(show)
