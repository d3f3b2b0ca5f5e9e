"""Windows of Qt 5 or 6, which the argument says.

Each widget is drawn once more, on a device that writes down which texts and pictures are drawn where.
"""

import importlib
import sys

from common import Truth, insert_rows, marked, meet, serve, settle, stem

PYQT = f"PyQt{sys.argv[1]}"
QtCore, QtGui, QtWidgets = (importlib.import_module(f"{PYQT}.{name}") for name in ("QtCore", "QtGui", "QtWidgets"))
W = QtWidgets
QPoint, Qt = QtCore.QPoint, QtCore.Qt
APP = W.QApplication(sys.argv[:1])
APP.setCursorFlashTime(0)
NODES, SHOWN = {}, []  # of widgets; windows
PLAIN = APP.style().objectName()


class Engine(QtGui.QPaintEngine):
    def __init__(self):
        super().__init__(QtGui.QPaintEngine.PaintEngineFeature.AllFeatures)
        self.texts, self.pictures = [], []

    def begin(self, device):
        return True

    def end(self):
        return True

    def type(self):
        return QtGui.QPaintEngine.Type.User

    def updateState(self, state):
        pass

    def drawPixmap(self, box, pixmap, part):
        self.pictures.append(self.painter().combinedTransform().mapRect(box))

    def drawImage(self, *_):
        pass

    drawTiledPixmap = drawPath = drawPolygon = drawLines = drawRects = drawEllipse = drawPoints = drawImage

    def drawTextItem(self, at, item):
        clip = self.painter().clipBoundingRect() if self.painter().hasClipping() else None
        place = self.painter().combinedTransform()
        clip = place.mapRect(clip) if clip is not None else None
        self.texts.append((place.map(at), item.text(), QtGui.QFont(item.font()), item.width(), clip))


class Recorder(QtGui.QPaintDevice):
    def __init__(self, widget):
        super().__init__()
        self.engine, self.widget = Engine(), widget

    def paintEngine(self):
        return self.engine

    def metric(self, metric):
        kinds, w = QtGui.QPaintDevice.PaintDeviceMetric, self.widget
        known = {
            kinds.PdmWidth: w.width, kinds.PdmHeight: w.height, kinds.PdmDpiX: w.logicalDpiX,
            kinds.PdmDpiY: w.logicalDpiY, kinds.PdmPhysicalDpiX: w.logicalDpiX, kinds.PdmWidthMM: w.widthMM,
            kinds.PdmPhysicalDpiY: w.logicalDpiY, kinds.PdmHeightMM: w.heightMM, kinds.PdmDepth: lambda: 32,
            kinds.PdmNumColors: lambda: 1 << 24, kinds.PdmDevicePixelRatio: lambda: 1,
            kinds.PdmDevicePixelRatioScaled: lambda: int(w.devicePixelRatioFScale()),
        }  # fmt: skip
        return known[metric]() if metric in known else 0


# ---- widgets


def noted(widget, node):
    NODES[id(widget)] = (widget, node)
    if node.get("off"):
        widget.setEnabled(False)
    return widget


def put(layout, node):
    made = build(node)
    if isinstance(made, W.QLayout):
        layout.addLayout(made, int(node.get("grow", False)))
    else:
        layout.addWidget(made, int(node.get("grow", False)))


def lines(node, layout):
    pad = node.get("pad", 0)
    layout.setContentsMargins(pad, pad, pad, pad)
    layout.setSpacing(node.get("gap", 6))
    for child in node["c"]:
        put(layout, child)
    if not any(child.get("grow") for child in node["c"]) and isinstance(layout, W.QVBoxLayout):
        layout.addStretch(1)
    return layout


def col(node):
    made = W.QWidget()
    lines(node, W.QVBoxLayout(made) if node["k"] == "col" else W.QHBoxLayout(made))
    return made


def form(node):
    made = W.QWidget()
    grid = W.QGridLayout(made)
    grid.setContentsMargins(0, 0, 0, 0)
    grid.setVerticalSpacing(node.get("gap", 6))
    for i, (text, field) in enumerate(node["rows"]):
        inner = build(field)
        grid.addWidget(label({"text": text}), i, 0)
        grid.addWidget(inner, i, 1)
        if not field.get("grow"):
            inner.setMaximumWidth(220)
    return made


def group(node):
    made = W.QGroupBox(node["text"].replace("&", "&&"))
    lines({**node, "pad": 9}, W.QVBoxLayout(made))
    return made


def tabs(node):
    made = W.QTabWidget()
    for i, title in enumerate(node["titles"]):
        inner = node["c"] if i == node["at"] else []
        made.addTab(col({"k": "col", "c": inner, "pad": 9}), title.replace("&", "&&"))
    made.setCurrentIndex(node["at"])
    return made


def label(node):
    made, style = W.QLabel(node["text"]), node.get("style")
    made.setTextFormat(Qt.TextFormat.PlainText)
    made.setWordWrap(style in ("text", "note"))
    if style == "head":
        font = made.font()
        font.setPointSizeF(1.4 * font.pointSizeF())
        font.setBold(True)
        made.setFont(font)
    return made


def link(node):
    made = W.QLabel(f'<a href="x">{node["text"]}</a>')
    made.setSizePolicy(W.QSizePolicy.Policy.Fixed, W.QSizePolicy.Policy.Fixed)
    return made


def picture(node):
    made = W.QLabel()
    made.setPixmap(QtGui.QPixmap(node["icon"]))
    made.setSizePolicy(W.QSizePolicy.Policy.Fixed, W.QSizePolicy.Policy.Preferred)
    return made


def button(node):
    if node.get("flat"):
        made = W.QToolButton()
        made.setText(node["text"])
        made.setAutoRaise(True)
        style = "TextBesideIcon" if node.get("icon") else "TextOnly"
        made.setToolButtonStyle(
            getattr(Qt.ToolButtonStyle, f"ToolButton{'IconOnly' if node.get('bare') else style}")
        )
    else:
        made = W.QPushButton(marked(node, "&"))
    if node.get("icon"):
        pixmap = QtGui.QPixmap(node["icon"])
        made.setIcon(QtGui.QIcon(pixmap))
        made.setIconSize(pixmap.size())
    if node["k"] == "toggle":
        made.setCheckable(True)
        made.setChecked(node["on"])
    return made


def choice(node):
    made = (W.QRadioButton if node["k"] == "radio" else W.QCheckBox)(marked(node, "&"))
    made.setAutoExclusive(False)
    made.setChecked(node["on"])
    made.setSizePolicy(W.QSizePolicy.Policy.Maximum, W.QSizePolicy.Policy.Fixed)
    return made


def field(node):
    made = W.QLineEdit(node["text"])
    made.setPlaceholderText(node.get("hint", ""))
    made.setCursorPosition(0)
    if node.get("secret"):
        made.setEchoMode(W.QLineEdit.EchoMode.Password)
    return made


def combo(node):
    made = W.QComboBox()
    made.addItems(node["options"])
    return made


def spin(node):
    made = W.QSpinBox()
    made.setRange(-(10**6), 10**6)
    made.setValue(node["value"])
    return made


def scale(node):
    made = W.QProgressBar() if node["k"] == "progress" else W.QSlider(Qt.Orientation.Horizontal)
    made.setValue(node["value"])
    return made


def table(node):
    made = W.QTreeWidget()
    made.setColumnCount(max(map(len, node["rows"])))
    made.setHeaderLabels(node["head"])
    made.setHeaderHidden(not node["head"])
    made.setRootIsDecorated(any(node["depths"]))
    made.setAlternatingRowColors(len(node["rows"]) % 2 == 0)

    def insert(row, cells, icon):
        item = W.QTreeWidgetItem(row or made, cells)
        if icon:
            item.setIcon(0, QtGui.QIcon(QtGui.QPixmap(icon)))
        for i in node.get("right", ()):
            item.setTextAlignment(i, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return item

    insert_rows(node, insert)
    made.expandAll()
    if node["selected"] >= 0:
        made.setCurrentItem(made.topLevelItem(node["selected"]))
    for i in range(made.columnCount()):
        made.resizeColumnToContents(i)
    return made


def text(node):
    made = W.QPlainTextEdit() if node.get("mono") else W.QTextEdit()
    made.setReadOnly(bool(node.get("fixed")))
    made.setPlainText("\n".join(node["lines"]))
    if node.get("mono"):
        font = made.font()
        font.setFamily(LOOK["mono"])
        made.setFont(font)
    return made


def bar(node):
    made = W.QToolBar()
    for item in node["c"]:
        made.addWidget(build(item)) if item else made.addSeparator()
    return made


def menubar(node):
    made = W.QMenuBar()
    for each in node["menus"]:
        menu = made.addMenu(marked(each, "&"))
        for item in each["items"]:
            if item is None:
                menu.addSeparator()
                continue
            action = menu.addAction(marked(item, "&"))
            action.setText(marked(item, "&") + ("\t" + item["keys"] if item.get("keys") else ""))
            action.setEnabled(not item.get("off"))
            if item.get("icon"):
                action.setIcon(QtGui.QIcon(QtGui.QPixmap(item["icon"])))
            if item.get("check") is not None:
                action.setCheckable(True)
                action.setChecked(item["check"])
    return made


def status(node):
    made = W.QStatusBar()
    for each in node["texts"]:
        made.addWidget(W.QLabel(each))
    return made


BUILD = {
    "col": col, "row": col, "form": form, "group": group, "tabs": tabs, "button": button, "toggle": button,
    "check": choice, "radio": choice, "switch": choice, "field": field, "combo": combo, "spin": spin,
    "slider": scale, "progress": scale, "table": table, "text": text, "bar": bar, "menubar": menubar,
    "status": status, "link": link, "label": label, "icon": picture,
    "space": lambda node: W.QWidget(),
}  # fmt: skip


def build(node):
    return noted(BUILD[node["k"]](node), node)


# ---- what is where


def at(widget):
    place = widget.mapToGlobal(QPoint(0, 0))
    return place.x(), place.y()


def sides(box, origin=(0, 0)):
    x, y = box.x() + origin[0], box.y() + origin[1]
    return [x, y, x + box.width(), y + box.height()]


ROLES = [
    (W.QRadioButton, "radio"), (W.QCheckBox, "checkbox"), (W.QAbstractButton, "button"), (W.QLineEdit, "textbox"),
    (W.QComboBox, "combobox"), (W.QSpinBox, "textbox"), (W.QSlider, "slider"), (W.QProgressBar, "progressbar"),
    (W.QTextEdit, "textbox"), (W.QPlainTextEdit, "textbox"),
]  # fmt: skip


def name_of(widget):
    node = NODES.get(id(widget), (None, {}))[1]
    return node.get("text", "") if isinstance(widget, (W.QAbstractButton, W.QLabel)) else ""


def add_elements(truth, clip, widget):
    box = sides(widget.rect(), at(widget))
    inner = isinstance(widget.parent(), (W.QSpinBox, W.QComboBox, W.QMenuBar, W.QToolBar, W.QTabBar))
    role = next((role for kind, role in ROLES if isinstance(widget, kind)), "")
    if role and (not inner or id(widget) in NODES):
        name = widget.currentText() if role == "combobox" else name_of(widget)
        truth.element(clip, role, name, box)
    elif isinstance(widget, W.QLabel) and NODES.get(id(widget), (0, {"k": ""}))[1]["k"] == "link":
        truth.element(clip, "link", name_of(widget), box)
    elif isinstance(widget, W.QTabBar):
        for i in range(widget.count()):
            truth.element(clip, "tab", widget.tabText(i).replace("&&", "&"), sides(widget.tabRect(i), at(widget)))
    elif isinstance(widget, (W.QMenuBar, W.QMenu)):
        for action in widget.actions():
            if not action.isSeparator():
                name = action.text().partition("\t")[0].replace("&&", "\0").replace("&", "").replace("\0", "&")
                truth.element(clip, "menuitem", name, sides(widget.actionGeometry(action), at(widget)))
    elif isinstance(widget, W.QHeaderView):
        x, y, high = *at(widget.viewport()), widget.viewport().height()
        for i in range(widget.count()):
            start = x + widget.sectionViewportPosition(i)
            name = widget.model().headerData(i, Qt.Orientation.Horizontal)
            truth.element(clip, "columnheader", name, [start, y, start + widget.sectionSize(i), y + high])


def add_drawn(truth, clip, widget, wanted):
    """Texts and pictures that a widget draws itself."""
    (x, y), recorder = at(widget), Recorder(widget)
    widget.render(recorder, QPoint(0, 0), QtGui.QRegion(), W.QWidget.RenderFlag(0))
    for place, text, font, width, within in recorder.engine.texts:
        seen = meet(clip, sides(within, (x, y))) if within is not None else clip
        layout = QtGui.QTextLayout(text, font, widget)
        layout.beginLayout()
        line = layout.createLine()
        layout.endLayout()
        size = QtGui.QFontInfo(font).pixelSize()
        full = line.cursorToX(len(text))
        scale = width / (full[0] if isinstance(full, tuple) else full) if text.strip() and width else 1

        def where(i, line=line, left=x + place.x(), scale=scale):
            found = line.cursorToX(i)
            return left + scale * (found[0] if isinstance(found, tuple) else found)

        cut = text.endswith("…") and text.split()[-1] not in wanted
        truth.text(seen, text, where, y + place.y(), size, cut=cut)
    boxes = [box for box in recorder.engine.pictures if 14 <= box.width() <= 64]
    boxes = [box for box in boxes if abs(box.width() - box.height()) < 3]
    for path, within in icons_of(widget):
        box = next((box for box in boxes if within.contains(box.center().toPoint())), None)
        if box is not None:
            truth.icon(clip, stem(path), sides(box, (x, y)))


def icons_of(widget):
    """Files of icons, and where each is: styles draw other pictures, too, as the arrows of trees."""
    node = NODES.get(id(widget), (None, {}))[1]
    if isinstance(widget, W.QMenu):
        return [
            (path, widget.actionGeometry(action)) for action, path in zip(widget.actions(), widget.icons) if path
        ]
    if isinstance(widget.parent(), W.QTreeWidget) and widget is widget.parent().viewport():
        tree, found = widget.parent(), []
        place = W.QTreeWidgetItemIterator(tree)
        for icon in NODES[id(tree)][1]["icons"]:
            item, place = place.value(), place.__iadd__(1)
            if icon and tree.visualItemRect(item).intersects(widget.rect()):
                found.append((icon, tree.visualItemRect(item)))
        return found
    return [(node["icon"], widget.rect())] if node.get("icon") else []


def walk(truth, widget, wanted):
    if not widget.isVisible():
        return
    # the viewport of a header covers it
    top = widget.viewport() if isinstance(widget, W.QHeaderView) else widget
    seen = top.visibleRegion().boundingRect()
    if not seen.isEmpty():
        clip = sides(seen, at(widget))
        add_elements(truth, clip, widget)
        add_drawn(truth, clip, widget, wanted)
    for child in widget.children():
        if isinstance(child, W.QWidget) and not child.isWindow():
            walk(truth, child, wanted)


def strings(node):
    if isinstance(node, str):
        yield node.strip()
        yield from node.split()
    elif isinstance(node, (list, dict)):
        for each in node.values() if isinstance(node, dict) else node:
            yield from strings(each)


def draw():
    settle(0.1, APP.processEvents)


def palette(colours):
    roles, made = QtGui.QPalette.ColorRole, QtGui.QPalette()
    for name, colour in ((each, colours[each]) for each in colours if each != "off"):
        made.setColor(getattr(roles, name), QtGui.QColor(colour))
    if colours:
        faint = QtGui.QColor(colours["off"]) if "off" in colours else made.color(roles.Mid)
        for role in (roles.WindowText, roles.Text, roles.ButtonText):
            made.setColor(QtGui.QPalette.ColorGroup.Disabled, role, faint)
    return made


def show(request):
    global LOOK
    for window in SHOWN:
        window.close()
        window.deleteLater()
    SHOWN.clear()
    NODES.clear()
    LOOK = request["look"]
    APP.setStyle(LOOK["style"])
    APP.setPalette(palette(LOOK["palette"]))
    font = QtGui.QFont(LOOK["font"][0])
    font.setPointSizeF(LOOK["font"][1])
    APP.setFont(font)
    window = build(request["tree"])
    SHOWN.append(window)
    window.setWindowTitle(request["title"])
    least = window.sizeHint()
    window.resize(max(request["width"], min(least.width(), 1500)), max(request["height"], min(least.height(), 940)))
    window.move(*request["at"])
    window.show()
    draw()
    for widget, node in [*NODES.values()]:
        if node["k"] == "menubar" and node["open"] >= 0:
            action = widget.actions()[node["open"]]
            menu = action.menu()
            menu.icons = [item and item.get("icon") for item in node["menus"][node["open"]]["items"]]
            place = widget.mapToGlobal(widget.actionGeometry(action).bottomLeft())
            widget.setActiveAction(action)
            menu.popup(place)
            SHOWN.append(menu)
            draw()
    truth, wanted = Truth(window.devicePixelRatioF()), set(strings(request["tree"]))
    for shown in SHOWN:
        truth.window(sides(shown.rect(), at(shown)))
        walk(truth, shown, wanted)
    return truth


LOOK = {}
serve(show)
