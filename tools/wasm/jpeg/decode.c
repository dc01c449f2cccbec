/* The decoder of JPEG files that Go's own refuses: libjpeg-turbo, compiled to a WebAssembly module without any import.
 *
 * One instance decodes one file and is thrown away. Calls, in order: input, start, next until it returns 0. An error
 * ends the instance with a trap; text then says why. */

#include <stdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "jinclude.h"
#define JPEG_INTERNALS
#include "jpeglib.h"
#include "jversion.h"

#define EXPORT(name) __attribute__((export_name(name)))

static struct jpeg_decompress_struct jpeg;
/* The library's messages; the table of its own comes with functions that need files. */
#define JMESSAGE(code, string) string,
static const char *const messages[] = {
#include "jerror.h"
  NULL
};

static struct jpeg_error_mgr errors;
static struct jpeg_source_mgr source;
static uint8_t *file;
static JSAMPROW row;
static char said[JMSG_LENGTH_MAX];
static uint32_t ended;     /* the file ended before its end marker */
static uint32_t units;     /* of a scan, and those of them without data */
static uint32_t missing;
static int refining;
static uint32_t worst;     /* missing of units in 65536, in the worst scan */
static uint8_t seen[MAX_COMPONENTS]; /* components that some scan has */

/* Memory that cannot be had, or misuse: nothing can go on. */
static void stop(j_common_ptr c) {
  errors.format_message(c, said);
  __builtin_trap();
}

/* format_message fills in the parameters of a message: snprintf would bring in files. */
static void format_message(j_common_ptr c, char *buffer) {
  int code = errors.msg_code, next = 0;
  const char *from = code > 0 && code <= errors.last_jpeg_message ? messages[code] : "unknown error";
  char *to = buffer, *end = buffer + JMSG_LENGTH_MAX - 12;
  while (*from != 0 && to < end) {
    if (*from != '%') {
      *to++ = *from++;
      continue;
    }
    while (*from != 0 && strchr("%0123456789l", *from) != NULL) from++;
    char kind = *from == 0 ? 0 : *from++;
    if (kind == 's') {
      for (const char *p = errors.msg_parm.s; *p != 0 && to < end; p++) *to++ = *p;
      continue;
    }
    int value = errors.msg_parm.i[next++ & 7];
    if (kind == 'c') {
      *to++ = value >= ' ' && value <= '~' ? (char)value : '?';
      continue;
    }
    unsigned v = (unsigned)value, base = kind == 'x' ? 16 : 10;
    if (kind == 'd' && value < 0) {
      *to++ = '-';
      v = -v;
    }
    char digits[12];
    int n = 0;
    do digits[n++] = "0123456789abcdef"[v % base];
    while ((v /= base) != 0);
    while (n > 0) *to++ = digits[--n];
  }
  *to = 0;
}

static void emit_message(j_common_ptr c, int level) {
  if (level >= 0) return; /* a trace, not a warning */
  if (errors.num_warnings++ == 0) format_message(c, said);
}

static void output_message(j_common_ptr c) {}

static void reset(j_common_ptr c) {
  errors.num_warnings = 0;
  errors.msg_code = 0;
}

static void nothing(j_decompress_ptr d) {}

/* Whatever lies behind the end of the file is its end marker. */
static boolean fill(j_decompress_ptr d) {
  static const JOCTET end[] = { 0xff, JPEG_EOI };
  WARNMS(d, JWRN_JPEG_EOF);
  ended = 1;
  source.next_input_byte = end;
  source.bytes_in_buffer = 2;
  return TRUE;
}

static void skip(j_decompress_ptr d, long n) {
  if (n <= 0) return;
  if ((size_t)n > source.bytes_in_buffer) {
    fill(d);
    return;
  }
  source.next_input_byte += n;
  source.bytes_in_buffer -= n;
}

/* The entropy decoder is wrapped, to count the units of each scan that had no data and became grey. */
static void (*start_input_pass)(j_decompress_ptr d);
static void (*start_pass)(j_decompress_ptr d);
static boolean (*decode_mcu)(j_decompress_ptr d, JBLOCKROW *blocks);

/* A scan that adds no more than the last bit of details is worth a quarter: without it the picture is there. */
static void account(void) {
  uint32_t share = units == 0 ? 0 : (uint32_t)(((uint64_t)missing << 16) / units);
  if (refining) share /= 4;
  if (share > worst) worst = share;
}

static boolean counted_mcu(j_decompress_ptr d, JBLOCKROW *blocks) {
  boolean ok = decode_mcu(d, blocks);
  missing += d->entropy->insufficient_data ? 1 : 0;
  return ok;
}

static void begin_scan(j_decompress_ptr d) {
  account();
  missing = 0;
  units = d->MCUs_per_row * d->MCU_rows_in_scan;
  refining = d->progressive_mode && d->Ss > 0 && d->Ah == 1 && d->Al == 0;
  for (int i = 0; i < d->comps_in_scan; i++) seen[d->cur_comp_info[i]->component_index] = 1;
  if (d->entropy->decode_mcu != counted_mcu) {
    decode_mcu = d->entropy->decode_mcu;
    d->entropy->decode_mcu = counted_mcu;
  }
}

static void counted_pass(j_decompress_ptr d) {
  start_pass(d);
  begin_scan(d);
}

/* The first scan is begun before anything could be wrapped but this. */
static void first_pass(j_decompress_ptr d) {
  start_input_pass(d);
  d->inputctl->start_input_pass = start_input_pass;
  start_pass = d->entropy->start_pass;
  d->entropy->start_pass = counted_pass;
  begin_scan(d);
}

/* input returns where the file of so many bytes is to be written. */
EXPORT("input") uint8_t *input(uint32_t size) {
  file = malloc(size);
  return file;
}

/* start reads the header, and of a progressive file the whole. */
EXPORT("start") void start(uint32_t size) {
  memset(&errors, 0, sizeof(errors));
  errors.error_exit = stop;
  errors.emit_message = emit_message;
  errors.output_message = output_message;
  errors.format_message = format_message;
  errors.reset_error_mgr = reset;
  errors.jpeg_message_table = messages;
  errors.last_jpeg_message = JMSG_LASTMSGCODE;
  jpeg.err = &errors;
  jpeg_create_decompress(&jpeg);
  source.init_source = nothing;
  source.fill_input_buffer = fill;
  source.skip_input_data = skip;
  source.resync_to_restart = jpeg_resync_to_restart;
  source.term_source = nothing;
  source.next_input_byte = file;
  source.bytes_in_buffer = size;
  jpeg.src = &source;
  jpeg_read_header(&jpeg, TRUE);
  switch (jpeg.jpeg_color_space) {
  case JCS_CMYK:
  case JCS_YCCK:
    jpeg.out_color_space = JCS_CMYK;
    break;
  default:
    jpeg.out_color_space = JCS_RGB;
  }
  jpeg.dct_method = JDCT_ISLOW;
  jpeg.do_block_smoothing = FALSE;
  start_input_pass = jpeg.inputctl->start_input_pass;
  jpeg.inputctl->start_input_pass = first_pass;
  jpeg_start_decompress(&jpeg);
  row = malloc((size_t)jpeg.output_width * 4);
  if (row == NULL) __builtin_trap();
}

EXPORT("width") uint32_t width(void) { return jpeg.output_width; }
EXPORT("height") uint32_t height(void) { return jpeg.output_height; }

/* next returns the next row of the picture, 3 bytes a pixel, or 0 at its end. */
EXPORT("next") uint8_t *next(void) {
  if (jpeg.output_scanline >= jpeg.output_height) return NULL;
  jpeg_read_scanlines(&jpeg, &row, 1);
  if (jpeg.out_color_space == JCS_CMYK) {
    /* Inks are stored inverted, as Adobe does and browsers assume. */
    const uint8_t *from = row;
    for (uint8_t *to = row; to < row + 3 * jpeg.output_width; to += 3, from += 4) {
      uint32_t k = from[3];
      uint8_t c = (uint8_t)(from[0] * k / 255), m = (uint8_t)(from[1] * k / 255), y = (uint8_t)(from[2] * k / 255);
      to[0] = c;
      to[1] = m;
      to[2] = y;
    }
  }
  return row;
}

/* lost returns how much of the picture is not in the file, as far as it has been read, in 65536 parts: of the scan that
 * lacks most. */
EXPORT("lost") uint32_t lost(void) {
  account();
  for (int c = 0; c < jpeg.num_components; c++) {
    if (!seen[c]) return 65536;
    for (int i = 0; ended && jpeg.progressive_mode && i < DCTSIZE2; i++)
      if (jpeg.coef_bits[c][i] != 0) return 65536;
  }
  return worst;
}

EXPORT("warnings") uint32_t warnings(void) { return (uint32_t)errors.num_warnings; }

/* text returns the first warning, or after a trap the error; a zero ends it. */
EXPORT("text") const char *text(void) { return said; }
