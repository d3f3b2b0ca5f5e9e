// What a window shows: words, elements, icons and places that training must ignore, in CSS pixels of the viewport.
// Called once a page is laid out and scrolled. Boxes are [ymin, xmin, ymax, xmax].
() => {
  const width = innerWidth, height = innerHeight;
  const PRIVATE = /[\uE000-\uF8FF]|[\uDB80-\uDBFF]/;
  const PICTURE = /\p{Extended_Pictographic}(?<![\d#*©®™])/u;
  const ICON_FONT = /icon|awesome|glyph|symbol|material|feather|boxicons|remix|typicon|themify/i;
  const round = (n) => Math.round(n * 100) / 100;
  const box = (r) => [r.top, r.left, r.bottom, r.right].map(round);
  const inside = (r) => r.bottom > 0 && r.right > 0 && r.top < height && r.left < width && r.width > 0 && r.height > 0;
  const styles = new Map();
  const style = (el) => {
    if (!styles.has(el)) styles.set(el, getComputedStyle(el));
    return styles.get(el);
  };
  const opacities = new Map();
  const opacity = (el) => {
    if (!el || el.nodeType !== 1) return 1;
    if (!opacities.has(el)) opacities.set(el, Number(style(el).opacity) * opacity(el.parentElement));
    return opacities.get(el);
  };
  const hidden = (el) => style(el).visibility !== "visible" || opacity(el) < 0.3;
  for (const el of document.body.querySelectorAll("*")) el.toggleAttribute("data-unseen", opacity(el) < 0.03);

  // The font's ascent and descent per pixel of its size: boxes of text are laid around its baseline.
  const pen = document.createElement("canvas").getContext("2d");
  const fonts = new Map();
  const fontOf = (el) => {
    const s = style(el);
    const name = `${s.fontStyle} ${s.fontWeight} ${s.fontSize} ${s.fontFamily}`;
    if (!fonts.has(name)) {
      pen.font = name;
      const m = pen.measureText("x");
      fonts.set(name, { name, size: parseFloat(s.fontSize), up: m.fontBoundingBoxAscent, down: m.fontBoundingBoxDescent });
    }
    return fonts.get(name);
  };
  // One em box around the baseline, the same share above and below it in every font.
  const textBox = (r, font) => {
    const baseline = r.top + (r.height * font.up) / (font.up + font.down);
    return [baseline - 0.85 * font.size, r.left, baseline + 0.25 * font.size, r.right].map(round);
  };

  // Whether one sees the text of an element at a point, not cut off and not covered, even by an element within it.
  const hitAt = (x, y) => (x < 0 || y < 0 || x >= width || y >= height ? null : document.elementFromPoint(x, y));
  const seenAt = (el, x, y) => hitAt(x, y) === el;
  const seen = (el, r) => {
    const y = (r.top + r.bottom) / 2;
    const inset = Math.min(3, 0.2 * r.width); // at its edge a point may belong to the neighbour
    const xs = [r.left + inset, (r.left + r.right) / 2, r.right - inset];
    return r.top >= 0 && r.bottom <= height && xs.every((x) => seenAt(el, x, y));
  };
  const ellipsis = (el) => {
    for (let e = el; e && e !== document.body; e = e.parentElement) {
      const s = style(e);
      if (s.textOverflow === "ellipsis" && e.scrollWidth > e.clientWidth) return e.getBoundingClientRect();
      if (s.webkitLineClamp !== "none" && e.scrollHeight > e.clientHeight) return e.getBoundingClientRect();
      if (s.display !== "inline") break;
    }
    return null;
  };
  const block = (el) => {
    let e = el;
    while (e.parentElement && style(e).display.startsWith("inline")) e = e.parentElement;
    return e;
  };
  const blocks = new Map();
  const number = (el) => {
    const b = block(el);
    if (!blocks.has(b)) blocks.set(b, blocks.size);
    return blocks.get(b);
  };
  const transformed = (text, el, starts) => {
    const s = style(el);
    const language = el.closest("[lang]")?.lang || undefined; // Greek capitals lose their accents
    if (s.fontVariantCaps.includes("small-caps")) return text.toLocaleUpperCase(language);
    if (s.textTransform === "uppercase") return text.toLocaleUpperCase(language);
    if (s.textTransform === "lowercase") return text.toLocaleLowerCase(language);
    if (s.textTransform === "capitalize" && starts) return text.charAt(0).toLocaleUpperCase(language) + text.slice(1);
    return text;
  };

  const words = [], ignored = [], icons = [];
  const iconName = (el) => {
    const found = (typeof el.className === "string" ? el.className : el.getAttribute("class") || "").split(/\s+/)
      .map((c) => /^(?:fa|fas|far|bx|bxs|fe|bi|glyphicon|icon|ti|mdi|ri|lucide|tabler)-(.+)$/.exec(c)).filter(Boolean)
      .map((m) => m[0]).filter((c) => !/-(lg|sm|xs|fw|\dx|spin|stack|inverse|circle-\dx)$/.test(c));
    return found[0] || "";
  };
  // Whether an element paints nothing of its own but text, such as a paragraph that reaches over an icon beside it.
  const bare = (s) => s.backgroundImage === "none" && /^rgba.*, 0\)$/.test(s.backgroundColor);
  const clear = (el) => bare(style(el)) && !/^(img|svg|canvas|video|iframe|input|select|textarea)$/i.test(el.tagName);
  const uncovered = (el, x, y) => {
    for (const hit of document.elementsFromPoint(x, y)) {
      if (el.contains(hit)) return true;
      if (!clear(hit)) return false;
    }
    return false;
  };
  const addIcon = (el, r) => {
    if (inside(r) && r.width <= 200 && r.height <= 200 && !hidden(el) && uncovered(el, r.left + r.width / 2, r.top + r.height / 2))
      icons.push({ name: iconName(el), box: box(r) });
  };

  const iconFont = (el) => {
    const family = style(el).fontFamily.split(",")[0];
    return ICON_FONT.test(family) && !/sans|serif|mono/i.test(family);
  };

  // Words of text nodes.
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const el = node.parentElement;
    if (!el || /^(script|style|noscript|template|textarea|option|title)$/i.test(el.tagName)) continue;
    const text = node.data;
    if (!/\S/.test(text)) continue;
    range.selectNodeContents(node);
    const whole = range.getBoundingClientRect();
    if (!inside(whole)) continue;
    const font = fontOf(el);
    if (PRIVATE.test(text) || iconFont(el)) {
      if (whole.width > 2 * font.size) ignored.push(box(whole)); // the font is missing: the icon's name is drawn
      else addIcon(el, whole);
      continue;
    }
    if (hidden(el)) {
      if (style(el).visibility === "visible" && opacity(el) > 0.03) ignored.push(box(whole));
      continue;
    }
    const cut = ellipsis(el);
    const fill = style(el).webkitTextFillColor; // clear where a gradient is clipped to the text
    const unfilled = fill.startsWith("rgba") && /, 0(\.0\d*)?\)$/.test(fill);
    const turned = style(el).writingMode !== "horizontal-tb";
    const pattern = /\S+/g;
    for (let m = pattern.exec(text); m; m = pattern.exec(text)) {
      // a word that is broken over lines is several: collect its characters by line
      const parts = [];
      range.setStart(node, m.index);
      range.setEnd(node, m.index + m[0].length);
      const rects = [...range.getClientRects()].filter((r) => r.width > 0);
      if (rects.length === 0) continue;
      const lines = rects.every((r) => Math.abs(r.top - rects[0].top) < r.height / 2);
      if (lines) parts.push([m[0], range.getBoundingClientRect(), 0]);
      else {
        for (let i = 0; i < m[0].length; i++) {
          range.setStart(node, m.index + i);
          range.setEnd(node, m.index + i + 1);
          const r = range.getBoundingClientRect();
          const last = parts.at(-1);
          if (r.width === 0) continue;
          if (last && Math.abs(last[1].top - r.top) < r.height / 2) {
            last[0] += m[0][i];
            last[1] = new DOMRect(last[1].left, last[1].top, r.right - last[1].left, last[1].height);
          } else parts.push([m[0][i], r, i]);
        }
      }
      for (const [raw, r, offset] of parts) {
        if (!inside(r)) continue;
        const shown = transformed(raw.replace(/\u00AD|\u200B|\u200E|\u200F/g, ""), el, offset === 0);
        if (!shown) continue;
        const b = textBox(r, font);
        const doubtful = unfilled || PICTURE.test(shown) || turned || !seen(el, r) || (cut && r.right > cut.right - 2 * font.size);
        if (doubtful) {
          // text of which nothing is seen is nothing; text that is cut or half covered is left open
          const y = (r.top + r.bottom) / 2;
          const some = [0.1, 0.3, 0.5, 0.7, 0.9].some((t) => seenAt(el, r.left + t * r.width, y)
            || seenAt(el, r.left + t * r.width, r.top + 1) || seenAt(el, r.left + t * r.width, r.bottom - 1));
          if (some || style(el).pointerEvents === "none") ignored.push(b); // such text is never what is hit
          continue;
        }
        words.push({ text: shown, box: b, block: number(el), joined: m.index === 0 && offset === 0, size: font.size,
          rtl: style(el).direction === "rtl", ends: m.index + m[0].length === text.length });
      }
    }
  }

  // Text of fields, which no text node holds: laid out as the browser does.
  const drawn = (el, text, left, centre, font) => {
    pen.font = font.name;
    const baseline = centre + (font.up - font.down) / 2;
    const pattern = /\S+/g;
    for (let m = pattern.exec(text); m; m = pattern.exec(text)) {
      const x = left + pen.measureText(text.slice(0, m.index)).width;
      const r = new DOMRect(x, baseline - font.up, pen.measureText(m[0]).width, font.up + font.down);
      const b = textBox(r, font);
      if (seen(el, new DOMRect(x, centre - 2, r.width, 4)) && b[0] >= 0 && b[2] <= height)
        words.push({ text: m[0], box: b, block: number(el), joined: false, size: font.size,
          rtl: style(el).direction === "rtl", ends: false });
      else if (inside(r)) ignored.push(b);
    }
  };
  for (const el of document.querySelectorAll("input, select, textarea")) {
    const r = el.getBoundingClientRect();
    if (!inside(r) || hidden(el)) continue;
    const s = style(el);
    const kind = el.tagName === "INPUT" ? el.type : el.tagName.toLowerCase();
    if (/^(checkbox|radio|range|color|hidden|image)$/.test(kind)) continue;
    const font = fontOf(el);
    const text = kind === "select" ? (el.selectedOptions[0] ? el.selectedOptions[0].text.trim() : "") : el.value || el.placeholder || "";
    const known = /^(text|search|email|url|tel|submit|button|reset|number|password|select)$/.test(kind)
      && !(kind === "select" && (el.multiple || el.size > 1)) && s.letterSpacing === "normal";
    if (!known || kind === "password" || PRIVATE.test(text)) {
      ignored.push(box(r)); // such as lists, dates and files, which show text of the browser
      continue;
    }
    if (!text) continue;
    const padding = [s.borderLeftWidth, s.paddingLeft].map(parseFloat).reduce((a, b) => a + b);
    const after = [s.borderRightWidth, s.paddingRight].map(parseFloat).reduce((a, b) => a + b);
    const native = kind === "select" && s.appearance !== "none" ? 4 : 0;
    const shown = transformed(text, el, true);
    pen.font = font.name;
    const wide = pen.measureText(shown).width;
    const middle = /^(submit|button|reset)$/.test(kind) || s.textAlign === "center";
    const ends = s.textAlign === "right" || (s.direction === "rtl" && s.textAlign !== "left");
    const left = middle ? r.left + (r.width - wide) / 2 : ends ? r.right - after - native - wide : r.left + padding + native;
    const [top, bottom] = [[s.borderTopWidth, s.paddingTop], [s.borderBottomWidth, s.paddingBottom]]
      .map((side) => side.map(parseFloat).reduce((a, b) => a + b));
    if (wide > r.width - padding - after + 1) ignored.push(box(r));
    else drawn(el, shown, left, (r.top + top + r.bottom - bottom) / 2, font);
  }

  // Pixels that may hold text which nobody knows.
  for (const el of document.querySelectorAll("img, canvas, video, iframe, embed, object, picture, svg, math")) {
    const r = el.getBoundingClientRect();
    if (!inside(r) || hidden(el)) continue;
    const tag = el.tagName.toLowerCase();
    if (tag === "svg" && r.width <= 64 && r.height <= 64) addIcon(el, r);
    else if (tag === "img" && el.complete && el.naturalWidth === 0) ignored.push(box(r)); // its alternative text is drawn
    else if (tag === "img" && r.width <= 64 && r.height <= 64) addIcon(el, r);
    else if (tag !== "svg") ignored.push(box(r));
  }
  for (const el of document.body.querySelectorAll("*")) {
    const r = el.getBoundingClientRect();
    if (!inside(r)) continue;
    if (style(el).backgroundImage.includes("url(") && !hidden(el) && r.width > 16 && r.height > 16
      && r.width * r.height < 0.5 * width * height && !el.textContent.trim()) ignored.push(box(r));
    if (r.width <= 3 * parseFloat(style(el).fontSize) && PRIVATE.test(getComputedStyle(el, "::before").content)) addIcon(el, r);
  }

  // Elements that one can point at.
  const ROLES = new Set(["link", "button", "textbox", "searchbox", "checkbox", "radio", "combobox", "listbox", "tab", "menuitem",
    "slider", "spinbutton", "switch", "heading", "img", "image", "option", "progressbar", "treeitem", "columnheader", "cell", "figure"]);
  // Many themes open menus with links that lead nowhere: what they do is what a button does (ARIA Authoring Practices).
  const lettered = (el) => [...el.childNodes].some((node) =>
    node.nodeType === 3 ? /\S/.test(node.data) && !PRIVATE.test(node.data) && !iconFont(el) : node.nodeType === 1 && lettered(node));
  const toggled = (el) => el.dataset.toggle || el.dataset.bsToggle || ""; // by Bootstrap 4 or 5
  const acts = (el) => el.matches("a:not([role])") && (el.matches("[data-widget], [aria-expanded], [aria-haspopup], .dropdown-toggle")
    || /^(dropdown|collapse|modal|offcanvas|treeview|sidebar|search)$/.test(toggled(el))
    || Boolean(el.nextElementSibling?.matches("li > ul, li > .dropdown-menu, li > .collapse"))
    || (/^javascript:/.test(el.getAttribute("href")) && !lettered(el)));
  const tabs = (el) => el.matches("a:not([role])") && /^(tab|pill)$/.test(toggled(el));
  // Where a pseudo-element that stands outside the flow is drawn, or null.
  const drawnBeside = (host, pseudo) => {
    const s = getComputedStyle(host, pseudo);
    if (s.content === "none" || s.position !== "absolute" || Number(s.opacity) < 0.3) return null;
    let holder = host;
    while (holder.parentElement && style(holder).position === "static" && style(holder).transform === "none") holder = holder.parentElement;
    const r = holder.getBoundingClientRect(), h = style(holder), moved = new DOMMatrix(s.transform);
    const px = (...names) => names.reduce((sum, name) => sum + (parseFloat(s[name]) || 0), 0);
    const outer = s.boxSizing === "border-box" ? [0, 0] : [
      px("paddingLeft", "paddingRight", "borderLeftWidth", "borderRightWidth"),
      px("paddingTop", "paddingBottom", "borderTopWidth", "borderBottomWidth")];
    return new DOMRect(r.left + parseFloat(h.borderLeftWidth) + px("left", "marginLeft") + moved.e,
      r.top + parseFloat(h.borderTopWidth) + px("top", "marginTop") + moved.f, px("width") + outer[0], px("height") + outer[1]);
  };
  // Many themes hide a check box and draw one of their own: its label, what follows it or what holds it has the
  // size of a control, or a pseudo-element of that size.
  const control = (r) => r && r.width >= 8 && r.height >= 8 && r.width <= 64 && r.height <= 40;
  const painted = (s) => !bare(s) || parseFloat(s.borderTopWidth) > 0;
  const standIn = (el) => {
    const next = el.nextElementSibling;
    const hosts = [...el.labels, ...(next ? [next] : [])].flatMap((e) => [e, ...e.querySelectorAll("*")]).filter((e) => !hidden(e));
    const places = hosts.flatMap((host) => ["::before", "::after"].filter((p) => painted(getComputedStyle(host, p)))
      .map((p) => [drawnBeside(host, p), host]));
    for (const host of [...hosts, el.parentElement])
      if (!host.textContent.trim() && painted(style(host))) places.push([host.getBoundingClientRect(), host]);
    return places.filter(([r]) => control(r)).sort(([a], [b]) => b.width * b.height - a.width * a.height)[0] || null;
  };
  // The rectangle of an inline element is as high as its own font, even if what it holds is higher: all in the flow of
  // its line that nothing within it clips.
  const flows = (e, el) => {
    for (let a = e; a !== el; a = a.parentElement)
      if (/^(absolute|fixed)$/.test(style(a).position) || (a !== e && (style(a).overflow !== "visible" || /^svg$/i.test(a.tagName)))) return false;
    return true;
  };
  const extent = (el) => {
    const whole = style(el).display === "inline" && !/^svg$/i.test(el.tagName);
    const held = whole ? [...el.querySelectorAll("*")].filter((e) => !hidden(e) && flows(e, el)) : [];
    const rects = [el, ...held].map((e) => e.getBoundingClientRect()).filter((r) => r.width > 0 && r.height > 0);
    if (rects.length < 2) return el.getBoundingClientRect();
    const [left, top] = ["left", "top"].map((side) => Math.min(...rects.map((r) => r[side])));
    const [right, bottom] = ["right", "bottom"].map((side) => Math.max(...rects.map((r) => r[side])));
    return new DOMRect(left, top, right - left, bottom - top);
  };
  const elements = [];
  for (const el of document.querySelectorAll("a[href], button, input, select, textarea, summary, img, svg, [role], h1, h2, h3, h4, h5, h6, th, label, progress, meter, [tabindex]")) {
    const own = extent(el);
    const unseen = hidden(el) || own.width < 4 || own.height < 4 || !inside(own);
    const checked = el.matches("input[type=checkbox], input[type=radio]");
    const [r, host] = (unseen && checked && standIn(el)) || [own, el];
    if (!inside(r) || (unseen && host === el)) continue;
    const role = acts(el) ? "button" : tabs(el) ? "tab" : unseen ? el.getAttribute("role") || el.type : el.computedRole || "";
    if (!ROLES.has(role)) continue;
    const name = (el.computedName || "").replace(/[\uE000-\uF8FF]/g, " ").replace(/\s+/g, " ").trim();
    const clipped = new DOMRect(Math.max(r.left, 0), Math.max(r.top, 0), 0, 0);
    const right = Math.min(r.right, width), bottom = Math.min(r.bottom, height);
    const shown = (right - clipped.left) * (bottom - clipped.top) / (r.width * r.height);
    const x = (clipped.left + right) / 2, y = (clipped.top + bottom) / 2;
    const hit = document.elementFromPoint(x, y);
    const ok = hit && (hit === el || el.contains(hit) || host.contains(hit) || (el.labels && [...el.labels].some((l) => l.contains(hit))));
    elements.push({ role, name: name.slice(0, 120), box: [clipped.top, clipped.left, bottom, right].map(round), seen: Boolean(ok) && shown > 0.6,
      shown: round(shown), title: el.title || "", id: el.id || "", type: el.type || "" });
  }
  return { words, ignored, icons, elements, width, height, scale: devicePixelRatio, language: document.documentElement.lang || "",
    background: style(document.body).backgroundColor };
}
