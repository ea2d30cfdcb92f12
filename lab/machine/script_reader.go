package machine

import (
	"io"
	"strings"
	"unicode/utf8"
)

// scriptReader hands the parser one line at a time. Bytes that are no UTF-8, which the parser would refuse and dash does
// not, travel as characters of a private plane and are turned back when words are expanded.
type scriptReader struct {
	shell *shell
	from  io.Reader
	line  [1024]byte
	raw   []byte // read, not yet handed out: the beginning of a character
	out   []byte // to be handed out from at on
	at    int
	last  byte // read
	ended bool
}

// privateByte is the character that stands for byte 0.
const privateByte = 0x10FE00

func (r *scriptReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for r.at == len(r.out) {
		if r.ended {
			return 0, io.EOF
		}
		r.fill()
	}
	n := copy(p, r.out[r.at:])
	r.at += n
	return n, nil
}

// fill reads at most one line.
func (r *scriptReader) fill() {
	from := r.from
	if from == nil {
		from = r.shell.reader(0)
	}
	r.out, r.at = r.out[:0], 0
	n, err := readLine(r.shell.ctx, from, r.line[:])
	if n > 0 {
		r.last = r.line[n-1]
		r.raw = append(r.raw, r.line[:n]...)
		r.encode(false)
		return
	}
	if err != nil { // a script whose source breaks off is at its end
		r.ended = true
		r.encode(true)
		if r.last != 0 && r.last != '\n' { // without it the parser would not hand out the last line
			r.out = append(r.out, '\n')
		}
	}
}

// encode moves raw bytes to out. Unless it is the end, the beginning of a character waits for its rest.
func (r *scriptReader) encode(end bool) {
	done := 0
	defer func() { r.raw = append(r.raw[:0], r.raw[done:]...) }()
	for done < len(r.raw) {
		rest := r.raw[done:]
		if rest[0] < utf8.RuneSelf {
			r.out = append(r.out, rest[0])
			done++
			continue
		}
		if !end && !utf8.FullRune(rest) {
			return
		}
		c, size := utf8.DecodeRune(rest)
		if c == utf8.RuneError && size == 1 {
			r.out = utf8.AppendRune(r.out, privateByte+rune(rest[0]))
		} else {
			r.out = append(r.out, rest[:size]...)
		}
		done += size
	}
}

// plainBytes turns what encode made back into the bytes that were read.
func plainBytes(text string) string {
	if !strings.Contains(text, "\xf4\x8f") {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		c, size := utf8.DecodeRuneInString(text)
		if c >= privateByte && c < privateByte+256 {
			b.WriteByte(byte(c - privateByte))
		} else {
			b.WriteString(text[:size])
		}
		text = text[size:]
	}
	return b.String()
}
