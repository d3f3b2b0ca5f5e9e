// Leave out text that CSS draws before and after elements, which no range measures; icons stay.
() => {
  const text = /[\p{L}\p{N}]/u;
  for (const el of document.body.querySelectorAll("*")) {
    if (!el.checkVisibility()) continue;
    for (const [pseudo, mark] of [["::before", "data-unmarked"], ["::after", "data-unended"]]) {
      const content = getComputedStyle(el, pseudo).content;
      if (content !== "none" && content !== "normal" && (text.test(content.replace(/url\([^)]*\)/g, "")) || /counter|attr/.test(content))
        && !/[\uE000-\uF8FF]/.test(content)) el.setAttribute(mark, "");
    }
  }
}
