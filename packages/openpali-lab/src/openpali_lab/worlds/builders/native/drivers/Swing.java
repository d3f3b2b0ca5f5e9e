import java.awt.*;
import java.awt.event.*;
import java.awt.font.*;
import java.awt.geom.*;
import java.awt.image.*;
import java.io.*;
import java.nio.charset.StandardCharsets;
import java.util.*;
import java.util.List;
import java.util.function.*;
import javax.swing.*;
import javax.swing.table.*;
import javax.swing.tree.*;

/** Windows of Swing. Each is painted once more, by a Graphics2D that writes down which texts are drawn where. */
public class Swing {
    static final Map<Component, Map<String, Object>> NODES = new IdentityHashMap<>();
    static Map<String, Object> look;
    static JFrame frame;
    static JMenu opened;

    // ---- JSON

    static final class Reader {
        final String text;
        int at = 0;

        Reader(String text) {
            this.text = text;
        }

        char next() {
            while (Character.isWhitespace(text.charAt(at))) at++;
            return text.charAt(at);
        }

        Object value() {
            char c = next();
            if (c == '{') {
                Map<String, Object> map = new LinkedHashMap<>();
                for (at++; next() != '}'; ) {
                    if (next() == ',') at++;
                    next();
                    String key = string();
                    next();
                    at++;
                    map.put(key, value());
                }
                at++;
                return map;
            }
            if (c == '[') {
                List<Object> list = new ArrayList<>();
                for (at++; next() != ']'; ) {
                    if (next() == ',') at++;
                    list.add(value());
                }
                at++;
                return list;
            }
            if (c == '"') return string();
            int start = at;
            while (at < text.length() && "+-.eE".indexOf(text.charAt(at)) >= 0 || Character.isLetterOrDigit(text.charAt(at))) at++;
            String word = text.substring(start, at);
            return switch (word) {
                case "true" -> Boolean.TRUE;
                case "false" -> Boolean.FALSE;
                case "null" -> null;
                default -> Double.valueOf(word);
            };
        }

        String string() {
            StringBuilder out = new StringBuilder();
            for (at++; text.charAt(at) != '"'; at++) {
                char c = text.charAt(at);
                if (c == '\\') {
                    c = text.charAt(++at);
                    if (c == 'u') {
                        c = (char) Integer.parseInt(text.substring(at + 1, at + 5), 16);
                        at += 4;
                    } else {
                        c = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c == 'b' ? '\b' : c == 'f' ? '\f' : c;
                    }
                }
                out.append(c);
            }
            at++;
            return out.toString();
        }
    }

    static String json(Object value) {
        if (value instanceof Collection<?> list) {
            StringJoiner out = new StringJoiner(",", "[", "]");
            for (Object each : list) out.add(json(each));
            return out.toString();
        }
        if (value instanceof Number || value instanceof Boolean) return value.toString();
        if (value instanceof Rectangle r) return json(List.of(r.x, r.y, r.x + r.width, r.y + r.height));
        StringBuilder out = new StringBuilder("\"");
        for (char c : value.toString().toCharArray())
            out.append(c == '"' || c == '\\' ? "\\" + c : c < 32 || c > 126 ? String.format("\\u%04x", (int) c) : "" + c);
        return out + "\"";
    }

    // ---- widgets

    static String text(Map<String, Object> node, String key) {
        return node.get(key) == null ? "" : node.get(key).toString();
    }

    static int number(Map<String, Object> node, String key, int other) {
        return node.get(key) instanceof Double d ? d.intValue() : other;
    }

    static boolean is(Map<String, Object> node, String key) {
        return Boolean.TRUE.equals(node.get(key));
    }

    @SuppressWarnings("unchecked")
    static <T> List<T> list(Object value) {
        return value == null ? List.of() : (List<T>) value;
    }

    static ImageIcon icon(Object path) {
        return path == null || path.toString().isEmpty() ? null : new ImageIcon(path.toString());
    }

    static JComponent col(Map<String, Object> node, boolean down) {
        JPanel made = new JPanel(new GridBagLayout());
        int pad = number(node, "pad", 0), gap = number(node, "gap", 6) / 2, i = 0;
        made.setBorder(BorderFactory.createEmptyBorder(pad, pad, pad, pad));
        boolean grown = false;
        for (Map<String, Object> child : Swing.<Map<String, Object>>list(node.get("c"))) {
            GridBagConstraints at = new GridBagConstraints();
            boolean grow = is(child, "grow");
            boolean tight = List.of("check", "radio", "button", "link", "icon").contains(text(child, "k"));
            grown |= grow;
            at.gridx = down ? 0 : i;
            at.gridy = down ? i : 0;
            at.anchor = GridBagConstraints.WEST;
            at.fill = grow ? GridBagConstraints.BOTH : tight ? 0 : down ? GridBagConstraints.HORIZONTAL : 0;
            at.weightx = down || grow ? 1 : 0;
            at.weighty = down && !grow ? 0 : 1;
            at.insets = down ? new Insets(gap, 0, gap, 0) : new Insets(0, gap, 0, gap);
            made.add(build(child), at);
            i++;
        }
        if (!grown) {
            GridBagConstraints at = new GridBagConstraints();
            at.gridx = down ? 0 : i;
            at.gridy = down ? i : 0;
            at.weightx = at.weighty = 1;
            made.add(new JPanel(null), at);
        }
        return made;
    }

    static JComponent form(Map<String, Object> node) {
        JPanel made = new JPanel(new GridBagLayout());
        int i = 0;
        for (List<Object> row : Swing.<List<Object>>list(node.get("rows"))) {
            @SuppressWarnings("unchecked")
            Map<String, Object> field = (Map<String, Object>) row.get(1);
            GridBagConstraints at = new GridBagConstraints();
            at.gridy = i++;
            at.insets = new Insets(2, 0, 2, 10);
            at.anchor = GridBagConstraints.WEST;
            made.add(new JLabel(row.get(0).toString()), at);
            at.gridx = 1;
            at.weightx = 1;
            at.fill = is(field, "grow") ? GridBagConstraints.HORIZONTAL : 0;
            made.add(build(field), at);
        }
        return made;
    }

    static <B extends AbstractButton> B button(B made, Map<String, Object> node) {
        if (!is(node, "bare")) made.setText(text(node, "text"));
        if (number(node, "mnemonic", -1) >= 0 && !is(node, "bare")) made.setDisplayedMnemonicIndex(mnemonic(made, node));
        if (icon(node.get("icon")) != null) made.setIcon(icon(node.get("icon")));
        made.setSelected(is(node, "on"));
        return made;
    }

    static int mnemonic(AbstractButton made, Map<String, Object> node) {
        int at = number(node, "mnemonic", -1);
        made.setMnemonic(text(node, "text").charAt(at));
        return at;
    }

    static JComponent table(Map<String, Object> node) {
        List<List<Object>> rows = list(node.get("rows"));
        List<Object> icons = list(node.get("icons")), depths = list(node.get("depths")), head = list(node.get("head"));
        if (depths.stream().anyMatch(d -> (Double) d > 0)) {
            DefaultMutableTreeNode root = new DefaultMutableTreeNode();
            List<DefaultMutableTreeNode> places = new ArrayList<>(List.of(root));
            for (int i = 0; i < rows.size(); i++) {
                int depth = ((Double) depths.get(i)).intValue();
                DefaultMutableTreeNode made = new DefaultMutableTreeNode(rows.get(i).get(0).toString());
                while (places.size() > depth + 1) places.remove(places.size() - 1);
                places.get(places.size() - 1).add(made);
                places.add(made);
            }
            JTree tree = new JTree(root);
            tree.setRootVisible(false);
            tree.setShowsRootHandles(true);
            for (int i = 0; i < tree.getRowCount(); i++) tree.expandRow(i);
            return new JScrollPane(tree);
        }
        int wide = rows.get(0).size();
        Object[][] cells = rows.stream().map(List::toArray).toArray(Object[][]::new);
        Object[] titles = head.isEmpty() ? Collections.nCopies(wide, "").toArray() : head.toArray();
        JTable made = new JTable(cells, titles);
        FontMetrics metrics = made.getFontMetrics(made.getFont());
        made.setRowHeight(metrics.getHeight() + 3);
        made.setShowGrid(rows.size() % 3 == 0);
        for (int i = 0; i < wide; i++) {
            int most = head.isEmpty() ? 20 : metrics.stringWidth(titles[i].toString());
            for (List<Object> row : rows) most = Math.max(most, metrics.stringWidth(row.get(i).toString()));
            made.getColumnModel().getColumn(i).setPreferredWidth(most + 14);
        }
        if (head.isEmpty()) made.setTableHeader(null);
        int selected = number(node, "selected", -1);
        if (selected >= 0) made.setRowSelectionInterval(selected, selected);
        return new JScrollPane(made);
    }

    static JComponent menubar(Map<String, Object> node) {
        JMenuBar made = new JMenuBar();
        int open = number(node, "open", -1), i = 0;
        for (Map<String, Object> each : Swing.<Map<String, Object>>list(node.get("menus"))) {
            JMenu menu = button(new JMenu(), each);
            for (Map<String, Object> item : Swing.<Map<String, Object>>list(each.get("items"))) {
                if (item == null) {
                    menu.addSeparator();
                    continue;
                }
                JMenuItem one = button(item.get("check") != null ? new JCheckBoxMenuItem() : new JMenuItem(), item);
                one.setSelected(is(item, "check"));
                one.setEnabled(!is(item, "off"));
                String keys = text(item, "keys").replace("Ctrl+", "ctrl ").replace("Shift+", "shift ").replace("Alt+", "alt ");
                if (item.get("accel") != null) one.setAccelerator(KeyStroke.getKeyStroke(keys));
                menu.add(one);
            }
            made.add(menu);
            if (i++ == open) opened = menu;
        }
        return made;
    }

    static JComponent build(Map<String, Object> node) {
        JComponent made = make(node);
        if (is(node, "off")) made.setEnabled(false);
        NODES.put(made, node);
        return made;
    }

    static JComponent make(Map<String, Object> node) {
        String text = text(node, "text");
        switch (text(node, "k")) {
            case "col":
                return col(node, true);
            case "row":
                return col(node, false);
            case "form":
                return form(node);
            case "group":
                JComponent inner = col(node, true);
                inner.setBorder(BorderFactory.createTitledBorder(text));
                return inner;
            case "tabs":
                JTabbedPane tabs = new JTabbedPane();
                int at = number(node, "at", 0), i = 0;
                for (Object title : list(node.get("titles"))) tabs.add(title.toString(), i++ == at ? col(node, true) : new JPanel());
                tabs.setSelectedIndex(at);
                return tabs;
            case "button":
                return button(new JButton(), node);
            case "toggle":
                return button(new JToggleButton(), node);
            case "check", "switch":
                return button(new JCheckBox(), node);
            case "radio":
                return button(new JRadioButton(), node);
            case "field":
                return is(node, "secret") ? new JPasswordField(text, 12) : new JTextField(text, number(node, "wide", 18) / 2 + 4);
            case "combo":
                return new JComboBox<Object>(list(node.get("options")).toArray());
            case "spin":
                return new JSpinner(new SpinnerNumberModel(number(node, "value", 0), -1000000, 1000000, 1));
            case "slider":
                return new JSlider(0, 100, number(node, "value", 0));
            case "progress":
                JProgressBar bar = new JProgressBar(0, 100);
                bar.setValue(number(node, "value", 0));
                bar.setStringPainted(number(node, "value", 0) % 2 == 0);
                return bar;
            case "table":
                return table(node);
            case "text":
                StringJoiner all = new StringJoiner("\n");
                for (Object line : list(node.get("lines"))) all.add(line.toString());
                JTextArea area = new JTextArea(all.toString(), 6, 20);
                area.setLineWrap(true);
                area.setWrapStyleWord(true);
                area.setCaretPosition(0);
                if (is(node, "mono")) area.setFont(new Font(text(look, "mono"), Font.PLAIN, area.getFont().getSize()));
                return new JScrollPane(area);
            case "bar":
                JToolBar tools = new JToolBar();
                tools.setFloatable(false);
                for (Map<String, Object> child : Swing.<Map<String, Object>>list(node.get("c"))) {
                    if (child == null) tools.addSeparator();
                    else tools.add(build(child));
                }
                return tools;
            case "menubar":
                return menubar(node);
            case "status":
                JPanel status = new JPanel(new FlowLayout(FlowLayout.LEFT, 12, 2));
                for (Object each : list(node.get("texts"))) status.add(new JLabel(each.toString()));
                return status;
            case "icon":
                return new JLabel(icon(node.get("icon")));
            case "space":
                return new JPanel(null);
            default:
                JLabel label = new JLabel(text);
                if (text(node, "style").equals("head")) label.setFont(label.getFont().deriveFont(Font.BOLD, 1.4f * label.getFont().getSize()));
                if (text(node, "k").equals("link")) label.setForeground(Color.decode(text(look, "accent")));
                return label;
        }
    }

    // ---- what is where

    static final List<Object> windows = new ArrayList<>(), texts = new ArrayList<>(), elements = new ArrayList<>(), icons = new ArrayList<>();
    static int left, top;

    static void note(String text, double x, double baseline, Font font, FontRenderContext context, AffineTransform by, Rectangle clip) {
        if (text.isBlank()) return;
        List<Object> words = new ArrayList<>();
        int i = 0;
        while (i < text.length()) {
            while (i < text.length() && Character.isWhitespace(text.charAt(i))) i++;
            int end = i;
            while (end < text.length() && !Character.isWhitespace(text.charAt(end))) end++;
            if (end > i) {
                double from = font.getStringBounds(text, 0, i, context).getWidth(), to = font.getStringBounds(text, 0, end, context).getWidth();
                Point2D a = by.transform(new Point2D.Double(x + from, baseline), null), b = by.transform(new Point2D.Double(x + to, baseline), null);
                words.add(List.of(text.substring(i, end), left + a.getX(), left + b.getX(), top + a.getY(), font.getSize2D()));
            }
            i = end;
        }
        boolean starts = !Character.isWhitespace(text.charAt(0)), ends = !Character.isWhitespace(text.charAt(text.length() - 1));
        texts.add(List.of(windows.size() - 1, clip, words, text.endsWith("...") || font.canDisplayUpTo(text) >= 0, List.of(starts, ends)));
    }

    /** Draws into an image that nobody sees, and notes texts and icons. */
    static final class Recorder extends Graphics2D {
        final Graphics2D to;

        Recorder(Graphics2D to) {
            this.to = to;
        }

        Rectangle seen() {
            Shape clip = to.getClip();
            Rectangle seen = clip == null ? new Rectangle(-9999, -9999, 99999, 99999) : to.getTransform().createTransformedShape(clip).getBounds();
            seen.translate(left, top);
            return seen;
        }

        void noted(String text, double x, double y) {
            note(text, x, y, to.getFont(), to.getFontRenderContext(), to.getTransform(), seen());
        }

        public void drawString(String text, int x, int y) {
            noted(text, x, y);
        }

        public void drawString(String text, float x, float y) {
            noted(text, x, y);
        }

        public void drawString(java.text.AttributedCharacterIterator text, int x, int y) {
            drawString(text, (float) x, (float) y);
        }

        public void drawString(java.text.AttributedCharacterIterator text, float x, float y) {
            StringBuilder all = new StringBuilder();
            for (char c = text.first(); c != java.text.CharacterIterator.DONE; c = text.next()) all.append(c);
            noted(all.toString(), x, y);
        }

        @Override
        public void drawChars(char[] data, int offset, int length, int x, int y) {
            noted(new String(data, offset, length), x, y);
        }

        public boolean drawImage(Image image, int x, int y, ImageObserver o) {
            String name = NAMES.get(image);
            Point2D at = to.getTransform().transform(new Point(x, y), null);
            int wide = image.getWidth(null), high = image.getHeight(null);
            if (name != null)
                icons.add(List.of(windows.size() - 1, seen(), name, new Rectangle(left + (int) at.getX(), top + (int) at.getY(), wide, high)));
            return true;
        }

        public boolean drawImage(Image i, int x, int y, Color c, ImageObserver o) {
            return drawImage(i, x, y, o);
        }

        public boolean drawImage(Image i, AffineTransform t, ImageObserver o) { return true; }
        public void drawImage(BufferedImage i, BufferedImageOp op, int x, int y) {}
        public boolean drawImage(Image i, int x, int y, int w, int h, ImageObserver o) { return true; }
        public boolean drawImage(Image i, int x, int y, int w, int h, Color c, ImageObserver o) { return true; }
        public boolean drawImage(Image i, int a, int b, int c, int d, int e, int f, int g, int h, ImageObserver o) { return true; }
        public boolean drawImage(Image i, int a, int b, int c, int d, int e, int f, int g, int h, Color k, ImageObserver o) { return true; }
        public void draw(Shape s) {}
        public void drawRenderedImage(java.awt.image.RenderedImage i, AffineTransform t) {}
        public void drawRenderableImage(java.awt.image.renderable.RenderableImage i, AffineTransform t) {}
        public void drawGlyphVector(GlyphVector g, float x, float y) {}
        public void fill(Shape s) {}
        public boolean hit(Rectangle r, Shape s, boolean on) { return to.hit(r, s, on); }
        public GraphicsConfiguration getDeviceConfiguration() { return to.getDeviceConfiguration(); }
        public void setComposite(Composite c) { to.setComposite(c); }
        public void setPaint(Paint p) { to.setPaint(p); }
        public void setStroke(Stroke s) { to.setStroke(s); }
        public void setRenderingHint(RenderingHints.Key k, Object v) { to.setRenderingHint(k, v); }
        public Object getRenderingHint(RenderingHints.Key k) { return to.getRenderingHint(k); }
        public void setRenderingHints(Map<?, ?> h) { to.setRenderingHints(h); }
        public void addRenderingHints(Map<?, ?> h) { to.addRenderingHints(h); }
        public RenderingHints getRenderingHints() { return to.getRenderingHints(); }
        public void translate(int x, int y) { to.translate(x, y); }
        public void translate(double x, double y) { to.translate(x, y); }
        public void rotate(double a) { to.rotate(a); }
        public void rotate(double a, double x, double y) { to.rotate(a, x, y); }
        public void scale(double x, double y) { to.scale(x, y); }
        public void shear(double x, double y) { to.shear(x, y); }
        public void transform(AffineTransform t) { to.transform(t); }
        public void setTransform(AffineTransform t) { to.setTransform(t); }
        public AffineTransform getTransform() { return to.getTransform(); }
        public Paint getPaint() { return to.getPaint(); }
        public Composite getComposite() { return to.getComposite(); }
        public void setBackground(Color c) { to.setBackground(c); }
        public Color getBackground() { return to.getBackground(); }
        public Stroke getStroke() { return to.getStroke(); }
        public void clip(Shape s) { to.clip(s); }
        public FontRenderContext getFontRenderContext() { return to.getFontRenderContext(); }
        public Graphics create() { return new Recorder((Graphics2D) to.create()); }
        public Color getColor() { return to.getColor(); }
        public void setColor(Color c) { to.setColor(c); }
        public void setPaintMode() {}
        public void setXORMode(Color c) {}
        public Font getFont() { return to.getFont(); }
        public void setFont(Font f) { to.setFont(f); }
        public FontMetrics getFontMetrics(Font f) { return to.getFontMetrics(f); }
        public Rectangle getClipBounds() { return to.getClipBounds(); }
        public void clipRect(int x, int y, int w, int h) { to.clipRect(x, y, w, h); }
        public void setClip(int x, int y, int w, int h) { to.setClip(x, y, w, h); }
        public Shape getClip() { return to.getClip(); }
        public void setClip(Shape s) { to.setClip(s); }
        public void copyArea(int x, int y, int w, int h, int dx, int dy) {}
        public void drawLine(int a, int b, int c, int d) {}
        public void fillRect(int x, int y, int w, int h) {}
        public void clearRect(int x, int y, int w, int h) {}
        public void drawRoundRect(int x, int y, int w, int h, int a, int b) {}
        public void fillRoundRect(int x, int y, int w, int h, int a, int b) {}
        public void drawOval(int x, int y, int w, int h) {}
        public void fillOval(int x, int y, int w, int h) {}
        public void drawArc(int x, int y, int w, int h, int a, int b) {}
        public void fillArc(int x, int y, int w, int h, int a, int b) {}
        public void drawPolyline(int[] x, int[] y, int n) {}
        public void drawPolygon(int[] x, int[] y, int n) {}
        public void fillPolygon(int[] x, int[] y, int n) {}
        public void dispose() { to.dispose(); }
    }

    static final Map<Image, String> NAMES = new IdentityHashMap<>();

    static void element(Component c, String role, String name, Rectangle part) {
        Rectangle seen = ((JComponent) c).getVisibleRect();
        Point at = c.getLocationOnScreen();
        Rectangle box = part == null ? new Rectangle(0, 0, c.getWidth(), c.getHeight()) : new Rectangle(part);
        seen.translate(at.x, at.y);
        box.translate(at.x, at.y);
        elements.add(List.of(windows.size() - 1, seen, role, name == null ? "" : name, box));
    }

    static void walk(Component c, boolean inner) {
        if (!c.isShowing()) return;
        boolean whole = false;
        if (c instanceof AbstractButton b && b.getIcon() instanceof ImageIcon i && NODES.containsKey(b)) name(i, NODES.get(b));
        if (c instanceof JLabel l && l.getIcon() instanceof ImageIcon i && NODES.containsKey(l)) name(i, NODES.get(l));
        if (c instanceof JMenuItem m) element(c, "menuitem", m.getText(), null);
        else if (c instanceof JRadioButton b) element(c, "radio", b.getText(), null);
        else if (c instanceof JCheckBox b) element(c, "checkbox", b.getText(), null);
        else if (c instanceof AbstractButton b && !inner) element(c, "button", text(NODES.getOrDefault(b, Map.of()), "text"), null);
        else if (c instanceof JSpinner) { element(c, "textbox", "", null); whole = true; }
        else if (c instanceof JComboBox<?> b) { element(c, "combobox", "" + b.getSelectedItem(), null); whole = true; }
        else if (c instanceof javax.swing.text.JTextComponent && !inner) element(c, "textbox", "", null);
        else if (c instanceof JSlider) element(c, "slider", "", null);
        else if (c instanceof JProgressBar) element(c, "progressbar", "", null);
        else if (c instanceof JScrollBar) whole = true;
        else if (c instanceof JLabel l && text(NODES.getOrDefault(l, Map.of()), "k").equals("link")) element(c, "link", l.getText(), null);
        else if (c instanceof JTabbedPane t)
            for (int i = 0; i < t.getTabCount(); i++) element(c, "tab", t.getTitleAt(i), t.getBoundsAt(i));
        else if (c instanceof JTableHeader h)
            for (int i = 0; i < h.getColumnModel().getColumnCount(); i++)
                element(c, "columnheader", "" + h.getColumnModel().getColumn(i).getHeaderValue(), h.getHeaderRect(i));
        if (c instanceof Container k) for (Component child : k.getComponents()) walk(child, inner || whole);
    }

    static void name(ImageIcon icon, Map<String, Object> node) {
        String file = new File(text(node, "icon")).getName();
        NAMES.put(icon.getImage(), file.replaceFirst("\\.\\w+$", ""));
    }

    static void add(JComponent content) {
        Point at = content.getLocationOnScreen();
        left = at.x;
        top = at.y;
        windows.add(new Rectangle(at.x, at.y, content.getWidth(), content.getHeight()));
        walk(content, false);
        BufferedImage image = new BufferedImage(content.getWidth(), content.getHeight(), BufferedImage.TYPE_INT_RGB);
        RepaintManager.currentManager(content).setDoubleBufferingEnabled(false);
        content.paint(new Recorder(image.createGraphics()));
    }

    static final Map<String, String> LOOKS = Map.of(
        "metal", "javax.swing.plaf.metal.MetalLookAndFeel", "nimbus", "javax.swing.plaf.nimbus.NimbusLookAndFeel",
        "motif", "com.sun.java.swing.plaf.motif.MotifLookAndFeel", "gtk", "com.sun.java.swing.plaf.gtk.GTKLookAndFeel");

    @SuppressWarnings("unchecked")
    static void show(Map<String, Object> request) {
        try {
            if (frame != null) frame.dispose();
            for (Collection<?> kept : List.of(windows, texts, elements, icons)) kept.clear();
            NODES.clear();
            NAMES.clear();
            opened = null;
            look = (Map<String, Object>) request.get("look");
            UIManager.setLookAndFeel(LOOKS.get(text(look, "swing")));
            List<Object> font = list(look.get("font"));
            javax.swing.plaf.FontUIResource plain =
                new javax.swing.plaf.FontUIResource(font.get(0).toString(), Font.PLAIN, (int) ((Double) font.get(1) * 96 / 72));
            for (Object key : Collections.list(UIManager.getLookAndFeelDefaults().keys()))
                if (key.toString().toLowerCase().endsWith("font")) UIManager.put(key, plain);
            frame = new JFrame(text(request, "title"));
            frame.setUndecorated(true);
            JPanel content = new JPanel(new BorderLayout());
            content.add(build((Map<String, Object>) request.get("tree")));
            frame.setContentPane(content);
            Dimension least = content.getPreferredSize();
            frame.setSize(Math.min(1500, Math.max(least.width, number(request, "width", 400))),
                Math.min(940, Math.max(Math.min(least.height, 800), number(request, "height", 300))));
            frame.setLocation(20, 20);
            frame.setVisible(true);
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
    }

    static void tell() {
        add((JComponent) frame.getContentPane());
        if (opened != null && opened.getPopupMenu().isShowing()) add(opened.getPopupMenu());
    }

    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream out = System.out;
        for (String line; (line = in.readLine()) != null; ) {
            @SuppressWarnings("unchecked")
            Map<String, Object> request = (Map<String, Object>) new Reader(line).value();
            EventQueue.invokeAndWait(() -> show(request));
            Thread.sleep(150);
            EventQueue.invokeAndWait(() -> {
                if (opened != null) opened.doClick(0);
            });
            Thread.sleep(opened == null ? 50 : 150);
            EventQueue.invokeAndWait(Swing::tell);
            out.println("{\"windows\":" + json(windows) + ",\"texts\":" + json(texts) + ",\"elements\":" + json(elements) + ",\"icons\":" + json(icons) + "}");
            out.flush();
        }
    }
}
