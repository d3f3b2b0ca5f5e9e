"""Windows of Tk. It does not tell where its widgets draw a text, but which element of theirs is at a pixel."""

import tkinter
from tkinter import font as fonts
from tkinter import ttk

from common import Truth, insert_rows, meet, serve, settle, stem

ROOT = tkinter.Tk()
ROOT.withdraw()
STYLE = ttk.Style()
NODES, IMAGES, SHOWN = [], {}, []
LOOK = {}


def image(path):
    return IMAGES.setdefault(path, tkinter.PhotoImage(file=path))


def noted(widget, node):
    NODES.append((widget, node))
    if node.get("off"):
        widget.state(["disabled"]) if isinstance(widget, ttk.Widget) else widget.configure(state="disabled")
    return widget


def underline(node):
    return {"underline": node.get("mnemonic", -1)}


def lines(frame, node, side):
    gap, pad = node.get("gap", 6), node.get("pad", 0)
    frame.configure(padding=pad)
    for child in node["c"]:
        grow = bool(child.get("grow"))
        wide = side == "top" and child["k"] not in ("check", "radio", "button", "link", "icon", "switch", "label")
        fill = "both" if grow else "x" if wide else "none"
        place = {"pady": gap // 2, "anchor": "w"} if side == "top" else {"padx": gap // 2}
        build(frame, child).pack(side=side, fill=fill, expand=grow, **place)
    return frame


def col(parent, node):
    return lines(ttk.Frame(parent), node, "top")


def row(parent, node):
    return lines(ttk.Frame(parent), node, "left")


def form(parent, node):
    made = ttk.Frame(parent)
    for i, (text, field) in enumerate(node["rows"]):
        label(made, {"text": text}).grid(row=i, column=0, sticky="w", padx=(0, 10), pady=node.get("gap", 6) // 2)
        build(made, field).grid(row=i, column=1, sticky="we" if field.get("grow") else "w")
    made.columnconfigure(1, weight=1)
    return made


def group(parent, node):
    made = noted(ttk.Labelframe(parent, text=node["text"]), {"k": "frame", "text": node["text"]})
    return lines(made, {**node, "pad": 8}, "top")


def tabs(parent, node):
    made = noted(ttk.Notebook(parent), node)
    for i, title in enumerate(node["titles"]):
        made.add(col(made, {"c": node["c"] if i == node["at"] else [], "pad": 8}), text=title)
    made.select(node["at"])
    return made


def label(parent, node):
    style, more = node.get("style"), {}
    if style == "head":
        more = {"font": LOOK["head"]}
    made = ttk.Label(parent, text=node["text"], **more)
    if style in ("text", "note"):
        made = tkinter.Text(
            parent, height=3, width=48, wrap="word", relief="flat", borderwidth=0, highlightthickness=0
        )
        made.configure(font=LOOK["plain"], **LOOK["flat"])
        made.insert("1.0", node["text"])
        return noted(made, {"k": "words"})
    return noted(made, {**node, "k": "label"})


def link(parent, node):
    return noted(ttk.Label(parent, text=node["text"], foreground=LOOK["link"], font=LOOK["under"]), node)


def picture(parent, node):
    return noted(ttk.Label(parent, image=image(node["icon"])), node)


def button(parent, node):
    more = {"compound": "image" if node.get("bare") else "left"}
    more |= {"image": image(node["icon"])} if node.get("icon") else {}
    style = "Toolbutton" if node.get("flat") else "TButton"
    return noted(ttk.Button(parent, text=node["text"], style=style, **underline(node), **more), node)


def choice(parent, node):
    kind = ttk.Radiobutton if node["k"] == "radio" else ttk.Checkbutton
    variable = tkinter.StringVar(value="1" if node["on"] else "0")
    more = {"value": "1"} if node["k"] == "radio" else {}
    made = kind(parent, text=node["text"], variable=variable, **more, **underline(node))
    made.state(["!alternate", "selected" if node["on"] else "!selected"])
    made.kept = variable
    return noted(made, node)


def field(parent, node):
    made = ttk.Entry(parent, width=node.get("wide", 18), font=LOOK["plain"], show="*" if node.get("secret") else "")
    made.insert(0, node["text"])
    return noted(made, node)


def combo(parent, node):
    made = ttk.Combobox(parent, values=node["options"], font=LOOK["plain"])
    made.set(node["options"][0])
    return noted(made, node)


def spin(parent, node):
    made = ttk.Spinbox(parent, from_=-(10**6), to=10**6, width=8, font=LOOK["plain"])
    made.set(node["value"])
    return noted(made, node)


def slider(parent, node):
    return noted(ttk.Scale(parent, from_=0, to=100, value=node["value"], length=140), node)


def progress(parent, node):
    return noted(ttk.Progressbar(parent, value=node["value"], length=140), node)


def scrolled(parent, make, **place):
    frame = ttk.Frame(parent)
    inner = make(frame)
    scroll = ttk.Scrollbar(frame, command=inner.yview)
    inner.configure(yscrollcommand=scroll.set)
    scroll.pack(side="right", fill="y")
    inner.pack(side="left", fill="both", expand=True)
    return frame, inner


def table(parent, node):
    if len(node["rows"][0]) == 1 and not any(node["icons"]) and not any(node["depths"]) and not node["head"]:
        frame, made = scrolled(parent, lambda f: tkinter.Listbox(f, font=LOOK["plain"], height=6, **LOOK["list"]))
        for [text] in node["rows"]:
            made.insert("end", text)
        if node["selected"] >= 0:
            made.selection_set(node["selected"])
        noted(made, {**node, "k": "listbox"})
        return frame
    wide = max(map(len, node["rows"]))
    columns = [f"c{i}" for i in range(1, wide)]
    shown = "tree headings" if node["head"] else "tree"
    frame, made = scrolled(parent, lambda f: ttk.Treeview(f, columns=columns, height=6, show=shown))

    def insert(row, cells, icon):
        more = {"image": image(icon)} if icon else {}
        return made.insert(row or "", "end", text=cells[0], values=cells[1:], open=True, **more)

    insert_rows(node, insert)
    for i, name in enumerate(["#0", *columns]):
        text = max((cells[i] for cells in node["rows"]), key=LOOK["plain"].measure)
        deep = 20 * (max(node["depths"]) + 1) + 28 if not i else 12
        title = node["head"][i] if node["head"] else ""
        wide = max(LOOK["plain"].measure(text), LOOK["plain"].measure(title)) + deep
        made.column(
            name,
            width=wide,
            stretch=name == ["#0", *columns][-1],
            anchor="e" if i in node.get("right", ()) else "w",
        )
        made.heading(name, text=title)
    if node["selected"] >= 0:
        made.selection_set(made.get_children()[node["selected"]])
    noted(made, node)
    return frame


def text(parent, node):
    font = LOOK["mono" if node.get("mono") else "plain"]
    frame, made = scrolled(
        parent, lambda f: tkinter.Text(f, font=font, width=30, height=6, wrap="word", **LOOK["text"])
    )
    made.insert("1.0", "\n".join(node["lines"]))
    noted(made, {**node, "k": "text"})
    return frame


def bar(parent, node):
    made = ttk.Frame(parent)
    for item in node["c"]:
        (build(made, item) if item else ttk.Separator(made, orient="vertical")).pack(side="left", fill="y", padx=1)
    return made


def menubar(parent, node):
    made = tkinter.Frame(parent, background=LOOK["menu"]["background"])
    for each in node["menus"]:
        item = tkinter.Menubutton(made, text=each["text"], font=LOOK["plain"], borderwidth=1, **underline(each))
        item.configure(**LOOK["menu"])
        item.pack(side="left")
        noted(item, {"k": "menuitem", "text": each["text"]})
    return made


def status(parent, node):
    made = ttk.Frame(parent)
    for each in node["texts"]:
        label(made, {"text": each}).pack(side="left", padx=6)
    return made


BUILD = {
    "col": col, "row": row, "form": form, "group": group, "tabs": tabs, "button": button, "toggle": button,
    "check": choice, "radio": choice, "switch": choice, "field": field, "combo": combo, "spin": spin,
    "slider": slider, "progress": progress, "table": table, "text": text, "bar": bar, "menubar": menubar,
    "status": status, "link": link, "label": label, "icon": picture, "space": lambda parent, _: ttk.Frame(parent),
}  # fmt: skip


def build(parent, node):
    return BUILD[node["k"]](parent, node)


# ---- what is where


def box_of(widget):
    x, y = widget.winfo_rootx(), widget.winfo_rooty()
    return [x, y, x + widget.winfo_width(), y + widget.winfo_height()]


def parcel(widget, names, probe=None):
    """The box of an element within a widget, by asking for what is at its pixels; None if it is not there."""
    probe = probe or widget.identify
    wide, high = widget.winfo_width(), widget.winfo_height()
    columns = [x for x in range(wide) if any(name in probe(x, high // 2) for name in names)]
    if not columns:
        return None
    middle = columns[len(columns) // 2]
    rows = [y for y in range(high) if any(name in probe(middle, y) for name in names)]
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def size_of(font):
    """Pixels of a font."""
    return abs(font.actual("size")) * (ROOT.tk.call("tk", "scaling") if font.actual("size") > 0 else 1)


def add_text(truth, clip, text, font, left, middle):
    """A text in one line of a font, whose middle is known."""
    ascent, descent = font.metrics("ascent"), font.metrics("descent")
    baseline = round(middle - (ascent + descent) / 2) + ascent
    truth.text(clip, text, lambda i: left + font.measure(text[:i]), baseline, size_of(font))


def add_view(truth, clip, view, font):
    x, y = view.winfo_rootx(), view.winfo_rooty()
    index = view.index("@0,0")
    while True:
        info = view.dlineinfo(index)
        if not info:
            return
        end = view.index(f"{index} display lineend")
        piece = view.get(index, end)

        def at(i, index=index):
            found = view.bbox(f"{index}+{i}c")
            within = found and info[1] - 2 <= found[1] < info[1] + info[3]
            return x + (found[0] if within else info[0] + info[2])

        if piece.strip():
            truth.text(clip, piece, at, y + info[1] + info[4], size_of(font))
        index = view.index(f"{index} +1 display lines display linestart")
        if (view.compare(index, "<=", end) and view.compare(end, "==", "end-1c")) or not view.dlineinfo(index):
            return


def add_rows(truth, clip, tree, node):
    plain, x, y = LOOK["plain"], tree.winfo_rootx(), tree.winfo_rooty()
    columns = ["#0", *tree["columns"]]
    items, waiting = [], [*tree.get_children()]
    while waiting:
        items.append(waiting.pop(0))
        waiting[:0] = tree.get_children(items[-1])
    start = -tree.xview()[0] * sum(tree.column(c, "width") for c in columns)
    tops = []
    for item, cells, icon in zip(items, node["rows"], node["icons"]):
        for i, name in enumerate(columns):
            found = tree.bbox(item, name)
            if not found:
                continue
            left, top, wide, high = found
            tops.append(top)
            cell = meet(clip, [x + left, y + top, x + left + wide, y + top + high])
            middle = y + top + high / 2
            if i:
                text = tree.set(item, name)
                pad = wide - plain.measure(text) - 4 if i in node.get("right", ()) else 4
                add_text(truth, cell, text, plain, x + left + pad, middle)
                continue
            spots = {"text": [], "image": []}
            for c in range(left, min(left + wide, tree.winfo_width())):
                spots.setdefault(tree.identify_element(c, top + high // 2), []).append(c)
            texts, pictures = spots["text"], spots["image"]
            if texts:
                add_text(truth, cell, cells[0], plain, x + texts[0], middle)
            if icon and pictures:
                side, at = image(icon).width(), x + (pictures[0] + pictures[-1] + 1 - image(icon).width()) / 2
                truth.icon(cell, stem(icon), [at, middle - side / 2, at + side, middle + side / 2])
    if node["head"] and tops:
        bottom = min(tops)
        for i, name in enumerate(columns):
            wide = tree.column(name, "width")
            box = [x + start + 1, y + 1, x + start + 1 + wide, y + bottom]
            title = node["head"][i]
            left = (box[0] + box[2] - plain.measure(title)) // 2
            truth.element(clip, "columnheader", title, box)
            add_text(truth, meet(clip, box), title, plain, left, (box[1] + box[3]) / 2)
            start += wide


ROLES = {
    "button": "button", "toggle": "button", "check": "checkbox", "switch": "checkbox", "radio": "radio",
    "field": "textbox", "combo": "combobox", "spin": "textbox", "slider": "slider", "progress": "progressbar",
    "link": "link", "text": "textbox", "menuitem": "menuitem", "listbox": "listbox",
}  # fmt: skip


def font_of(node):
    return LOOK["head" if node.get("style") == "head" else "under" if node["k"] == "link" else "plain"]


def add(truth, clip, widget, node):
    kind, box = node["k"], box_of(widget)
    clip = meet(clip, box)
    x, y = box[:2]
    role = ROLES.get(kind, "")
    if role:
        name = node.get("text", "") if role not in ("textbox", "listbox") else ""
        truth.element(clip, role, widget.get() if role == "combobox" else name, box)
    middle = (box[1] + box[3]) / 2
    if kind in ("text", "words"):
        add_view(truth, clip, widget, LOOK["mono" if node.get("mono") else "plain"])
    elif kind == "listbox":
        for i, [text] in enumerate(node["rows"]):
            found = widget.bbox(i)
            if found:
                add_text(truth, clip, text, LOOK["plain"], x + found[0], y + found[1] + found[3] / 2)
    elif kind == "table":
        add_rows(truth, clip, widget, node)
    elif kind in ("field", "combo", "spin"):
        text = widget.get() if not node.get("secret") else ""
        if text:
            first = widget.bbox(0)
            inner = parcel(widget, ["textarea"]) or [0, 0, box[2] - x, 0]
            seen = meet(clip, [x + inner[0], box[1], x + inner[2], box[3]])
            add_text(truth, seen, text, LOOK["plain"], x + first[0], y + first[1] + first[3] / 2)
    elif kind in ("slider", "progress"):
        pass
    elif kind == "menuitem":
        left = (box[0] + box[2] - LOOK["plain"].measure(node["text"])) // 2
        add_text(truth, clip, node["text"], LOOK["plain"], left, middle)
    elif kind == "tabs":
        for i, title in enumerate(node["titles"]):
            own = [c for c in range(widget.winfo_width()) if widget.tk.call(widget, "identify", "tab", c, 12) == i]
            if own:
                tab = [x + own[0], y + 2, x + own[-1] + 1, y + widget.nametowidget(widget.tabs()[0]).winfo_y()]
                if node["at"] != i:
                    tab[1] += 2
                tab[3] = min(tab[3], y + widget.nametowidget(widget.select()).winfo_y() - 1)
                truth.element(clip, "tab", title, tab)
                high = [r for r in range(tab[3] - y) if "label" in widget.identify((own[0] + own[-1]) // 2, r)]
                if high:
                    label = [c for c in own if "label" in widget.identify(c, (high[0] + high[-1]) // 2)]
                    left = x + label[0] + max(0, (len(label) - LOOK["plain"].measure(title)) // 2)
                    add_text(truth, clip, title, LOOK["plain"], left, y + (high[0] + high[-1] + 1) / 2)
    elif kind == "frame":
        font, high = LOOK["plain"], LOOK["plain"].metrics("linespace") / 2
        left = next((c for c in range(widget.winfo_width()) if "text" in widget.identify(c, int(high))), 8)
        add_text(truth, clip, node["text"], font, x + left, y + high)
    else:
        add_label(truth, clip, widget, node)


def add_label(truth, clip, widget, node):
    """A text with or without an icon on its left."""
    x, y, font = widget.winfo_rootx(), widget.winfo_rooty(), font_of(node)
    found = parcel(widget, ["label", "text", "image"])
    if not found:
        return
    text = "" if node.get("bare") else node.get("text", "")
    icon = image(node["icon"]) if node.get("icon") else None
    gap = 4 if icon and text else 0
    wide = (icon.width() if icon else 0) + gap + font.measure(text)
    centred = node["k"] in ("button", "toggle")
    left = x + found[0] + (max(0, (found[2] - found[0] - wide) // 2) if centred else 0)
    middle = y + (found[1] + found[3]) / 2
    if icon:
        side = icon.width()
        truth.icon(clip, stem(node["icon"]), [left, middle - side / 2, left + side, middle + side / 2])
        left += side + gap
    if text:
        add_text(truth, clip, text, font, left, middle)


def show(request):
    global LOOK
    for window in SHOWN:
        window.destroy()
    SHOWN.clear()
    NODES.clear()
    IMAGES.clear()
    LOOK = {**request["look"]}
    style(LOOK)
    window = tkinter.Toplevel(ROOT)
    SHOWN.append(window)
    window.configure(background=LOOK["ground"])
    window.title(request["title"])
    made = build(window, request["tree"])
    made.pack(fill="both", expand=True)
    window.update_idletasks()
    wide = min(1500, max(request["width"], made.winfo_reqwidth()))
    high = min(940, max(request["height"], made.winfo_reqheight()))
    window.geometry(f"{wide}x{high}+{request['at'][0]}+{request['at'][1]}")
    settle(0.12, ROOT.update)
    truth = Truth()
    truth.window(box_of(window))
    clip = box_of(window)
    for widget, node in NODES:
        if widget.winfo_viewable():
            add(truth, clip, widget, node)
    return truth


def style(look):
    STYLE.theme_use(look["tk"])
    scale = look["font"][1]
    look["plain"] = fonts.Font(family=look["font"][0], size=scale)
    look["mono"] = fonts.Font(family=look["mono"], size=scale)
    look["head"] = fonts.Font(family=look["font"][0], size=round(1.4 * scale), weight="bold")
    look["under"] = fonts.Font(family=look["font"][0], size=scale, underline=True)
    ground, ink, base, chosen = look["colours"]
    look["ground"], look["link"] = ground, look["accent"]
    look["text"] = {"background": base, "foreground": ink, "selectbackground": chosen, "insertwidth": 0}
    look["list"] = {"background": base, "foreground": ink, "selectbackground": chosen}
    look["flat"] = {"background": ground, "foreground": ink}
    look["menu"] = {"background": ground, "foreground": ink, "activebackground": chosen}
    STYLE.configure(".", font=look["plain"], background=ground, foreground=ink, fieldbackground=base)
    STYLE.configure("Treeview", rowheight=look["plain"].metrics("linespace") + 4, background=base, foreground=ink)
    STYLE.configure("Treeview", fieldbackground=base)
    STYLE.map("Treeview", background=[("selected", chosen)], foreground=[("selected", "#fff")])
    STYLE.configure("Heading", font=look["plain"])
    STYLE.configure("TEntry", foreground=ink)
    STYLE.configure("TNotebook.Tab", background=ground, foreground=ink)
    STYLE.map(".", background=[], foreground=[("disabled", look["faint"])])


serve(show)
