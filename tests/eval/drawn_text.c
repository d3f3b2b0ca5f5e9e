/* What a program draws through Pango and Cairo, or Xft, one word a line, for LD_PRELOAD:
   number \t window \t width \t height \t left \t right \t baseline \t size \t clip x0 \t y0 \t x1 \t y1 \t cut \t joined \t ends \t word.
   Words that are joined or end have no space before or after them in what is drawn. Coordinates are of the drawable, pixels; window is 0 for Cairo's. Libraries are called without their headers, which
   take hundreds of megabytes. The log is $DRAWN_TEXT. */
#define _GNU_SOURCE
#include <X11/Xft/Xft.h>
#include <X11/Xutil.h>
#include <dlfcn.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { int x, y, width, height; } Rect;
typedef struct { void *layout; int start, length; } Line; /* how PangoLayoutLine begins */

#define NEXT(name) __typeof__(name) *next = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)
#define CALL(type, name, ...) ((type(*)())dlsym(RTLD_DEFAULT, #name))(__VA_ARGS__)

static long seq;
static FILE *opened(void) {
  static FILE *file;
  if (!file && getenv("DRAWN_TEXT")) file = fopen(getenv("DRAWN_TEXT"), "a");
  return file;
}

static void put(long window, int w, int h, double left, double right, double base, double size, const double *clip,
                int cut, int joined, int ends, const char *text, int length) {
  FILE *file = opened();
  if (!file || length <= 0) return;
  fprintf(file, "%ld\t%ld\t%d\t%d\t%.2f\t%.2f\t%.2f\t%.2f\t%.1f\t%.1f\t%.1f\t%.1f\t%d\t%d\t%d\t%.*s\n", seq, window, w, h,
          left, right, base, size, clip[0], clip[1], clip[2], clip[3], cut, joined, ends,
          length, text);
  fflush(file);
}

static int blank(const char *s, const char *end) { /* bytes of a space at s, or 0 */
  if (*s == ' ' || *s == '\t' || *s == '\n' || *s == '\r') return 1;
  if (end - s >= 2 && !memcmp(s, "\xc2\xa0", 2)) return 2;
  if (end - s >= 3 && (!memcmp(s, "\xe2\x80\xa8", 3) || !memcmp(s, "\xe2\x80\xa9", 3))) return 3;
  return 0;
}

/* Pango */
static double size_of(void *layout) {
  void *context = CALL(void *, pango_layout_get_context, layout);
  void *font = CALL(void *, pango_layout_get_font_description, layout);
  if (!font) font = CALL(void *, pango_context_get_font_description, context);
  double size = CALL(int, pango_font_description_get_size, font) / 1024.0;
  if (CALL(int, pango_font_description_get_size_is_absolute, font)) return size;
  double dpi = ((double (*)(void *))dlsym(RTLD_DEFAULT, "pango_cairo_context_get_resolution"))(context);
  return size * (dpi > 0 ? dpi : 96) / 72;
}

static void place(void *cr, double *x, double *y) {
  ((void (*)(void *, double *, double *))dlsym(RTLD_DEFAULT, "cairo_user_to_device"))(cr, x, y);
}

static void line(void *cr, void *layout, Line *each, double x, double base, int cut) {
  const char *text = CALL(const char *, pango_layout_get_text, layout);
  double clip[4], size = size_of(layout), zero = 0, one = size;
  ((void (*)(void *, double *, double *, double *, double *))dlsym(RTLD_DEFAULT, "cairo_clip_extents"))(
      cr, clip, clip + 1, clip + 2, clip + 3);
  place(cr, clip, clip + 1);
  place(cr, clip + 2, clip + 3);
  ((void (*)(void *, double *, double *))dlsym(RTLD_DEFAULT, "cairo_user_to_device_distance"))(cr, &zero, &one);
  if (fabs(zero) > 0.01) return; /* not upright */
  const char *start = text + each->start, *end = start + each->length;
  for (const char *s = start; s < end;) {
    int space = blank(s, end);
    if (space) {
      s += space;
      continue;
    }
    const char *stop = s;
    while (stop < end && !blank(stop, end)) stop++;
    int a, b;
    CALL(void, pango_layout_line_index_to_x, each, (int)(s - text), 0, &a);
    CALL(void, pango_layout_line_index_to_x, each, (int)(stop - text), 0, &b);
    double left = x + fmin(a, b) / 1024.0, right = x + fmax(a, b) / 1024.0, y0 = base, y1 = base;
    place(cr, &left, &y0);
    place(cr, &right, &y1);
    put(0, 0, 0, left, right, y0, one, clip, cut, s == start, stop == end, s, stop - s);
    s = stop;
  }
}

static void point(void *cr, double *x, double *y) {
  *x = *y = 0;
  if (CALL(int, cairo_has_current_point, cr))
    ((void (*)(void *, double *, double *))dlsym(RTLD_DEFAULT, "cairo_get_current_point"))(cr, x, y);
}

void pango_cairo_show_layout(void *cr, void *layout) {
  NEXT(pango_cairo_show_layout);
  double x, y;
  point(cr, &x, &y);
  seq++;
  int cut = CALL(int, pango_layout_is_ellipsized, layout);
  void *iter = CALL(void *, pango_layout_get_iter, layout);
  do {
    Rect logical;
    Line *each = CALL(void *, pango_layout_iter_get_line_readonly, iter);
    CALL(void, pango_layout_iter_get_line_extents, iter, NULL, &logical);
    line(cr, layout, each, x + logical.x / 1024.0, y + CALL(int, pango_layout_iter_get_baseline, iter) / 1024.0, cut);
  } while (CALL(int, pango_layout_iter_next_line, iter));
  CALL(void, pango_layout_iter_free, iter);
  next(cr, layout);
}

void pango_cairo_show_layout_line(void *cr, void *each) {
  NEXT(pango_cairo_show_layout_line);
  double x, y;
  point(cr, &x, &y);
  seq++;
  line(cr, ((Line *)each)->layout, each, x, y, 0);
  next(cr, each);
}

typedef struct { int offset, length, num_chars; void *shape, *font; } Item; /* how PangoItem begins */
void pango_cairo_show_glyph_item(void *cr, const char *text, void *glyph_item) {
  NEXT(pango_cairo_show_glyph_item);
  Item *item = *(Item **)glyph_item;
  void *glyphs = ((void **)glyph_item)[1], *analysis = &item->shape;
  double x, y, clip[4];
  point(cr, &x, &y);
  ((void (*)(void *, double *, double *, double *, double *))dlsym(RTLD_DEFAULT, "cairo_clip_extents"))(
      cr, clip, clip + 1, clip + 2, clip + 3);
  place(cr, clip, clip + 1);
  place(cr, clip + 2, clip + 3);
  void *font = CALL(void *, pango_font_describe_with_absolute_size, item->font);
  double size = CALL(int, pango_font_description_get_size, font) / 1024.0;
  seq++;
  const char *start = text + item->offset, *end = start + item->length;
  for (const char *s = start; s < end;) {
    int space = blank(s, end);
    if (space) {
      s += space;
      continue;
    }
    const char *stop = s;
    while (stop < end && !blank(stop, end)) stop++;
    int a, b;
    CALL(void, pango_glyph_string_index_to_x, glyphs, start, item->length, analysis, (int)(s - start), 0, &a);
    CALL(void, pango_glyph_string_index_to_x, glyphs, start, item->length, analysis, (int)(stop - start), 0, &b);
    double left = x + a / 1024.0, right = x + b / 1024.0, y0 = y, y1 = y;
    place(cr, &left, &y0);
    place(cr, &right, &y1);
    put(0, 0, 0, left, right, y0, size, clip, 0, s == start, stop == end, s, stop - s);
    s = stop;
  }
  next(cr, text, glyph_item);
}

/* Xft */
static double clips[4] = {-1e6, -1e6, 1e6, 1e6};
static int failed;
static int fail(Display *display, XErrorEvent *event) { return failed = 1; }

Bool XftDrawSetClip(XftDraw *draw, Region region) {
  NEXT(XftDrawSetClip);
  clips[0] = clips[1] = -1e6, clips[2] = clips[3] = 1e6;
  if (region) {
    XRectangle box;
    XClipBox(region, &box);
    clips[0] = box.x, clips[1] = box.y, clips[2] = box.x + box.width, clips[3] = box.y + box.height;
  }
  return next(draw, region);
}

void XftDrawString32(XftDraw *draw, const XftColor *colour, XftFont *font, int x, int y, const FcChar32 *s, int n) {
  NEXT(XftDrawString32);
  Display *display = XftDrawDisplay(draw);
  Window root = DefaultRootWindow(display), child;
  Drawable drawable = XftDrawDrawable(draw);
  int left = 0, top = 0, at_x, at_y;
  unsigned w = 0, h = 0, border, depth;
  XSync(display, False);
  XErrorHandler before = XSetErrorHandler(fail);
  failed = 0;
  XGetGeometry(display, drawable, &child, &at_x, &at_y, &w, &h, &border, &depth);
  XTranslateCoordinates(display, drawable, root, 0, 0, &left, &top, &child);
  XSync(display, False);
  XSetErrorHandler(before);
  long window = failed ? -1 : (long)drawable;
  if (failed) left = top = 0;
  double size = 0, clip[4] = {clips[0] + left, clips[1] + top, clips[2] + left, clips[3] + top};
  FcPatternGetDouble(font->pattern, "pixelsize", 0, &size);
  seq++;
  for (int i = 0; i < n;) {
    if (s[i] <= 32 || s[i] == 160) {
      i++;
      continue;
    }
    int stop = i, length = 0;
    char text[4096];
    while (stop < n && s[stop] > 32 && s[stop] != 160 && length < 4000) length += FcUcs4ToUtf8(s[stop++], (FcChar8 *)text + length);
    XGlyphInfo a, b;
    XftTextExtents32(display, font, s, i, &a);
    XftTextExtents32(display, font, s, stop, &b);
    put(window, w, h, left + x + (i ? a.xOff : 0), left + x + b.xOff, top + y, size, clip, 0, !i, stop == n, text, length);
    i = stop;
  }
  next(draw, colour, font, x, y, s, n);
}
