package system

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"unicode/utf8"
)

// diffLimit is up to which size contents are fetched and shown as a diff.
const diffLimit = 64 << 10

// content is what a file must hold. Large local files are streamed, never held.
type content struct {
	given  bool
	secret bool
	size   int64
	sum    string
	text   []byte // nil when local names the file
	local  string
}

// content works out digest and size. A file that is being written while it is read is noticed when it is sent.
func (a fileArgs) content() (content, error) {
	switch {
	case a.Source != "":
		return localContent(string(a.Source))
	case a.Content.Given():
		return textContent([]byte(a.Content.Reveal()), a.Content.Sensitive()), nil
	}
	return content{}, nil
}

func textContent(text []byte, secret bool) content {
	sum := sha256.Sum256(text)
	return content{given: true, secret: secret, size: int64(len(text)), sum: hex.EncodeToString(sum[:]), text: text}
}

func localContent(name string) (content, error) {
	f, err := os.Open(name)
	if err != nil {
		return content{}, fmt.Errorf("source: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return content{}, fmt.Errorf("source: %s is a directory", name)
	}
	head, err := io.ReadAll(io.LimitReader(f, diffLimit+1))
	if err != nil {
		return content{}, fmt.Errorf("source: %w", err)
	}
	if len(head) <= diffLimit {
		return textContent(head, false), nil
	}
	h := sha256.New()
	h.Write(head)
	n, err := io.Copy(h, f)
	if err != nil {
		return content{}, fmt.Errorf("source: %w", err)
	}
	return content{given: true, size: int64(len(head)) + n, sum: hex.EncodeToString(h.Sum(nil)), local: name}, nil
}

func (c content) open() (io.ReadCloser, error) {
	if c.local == "" {
		return io.NopCloser(bytes.NewReader(c.text)), nil
	}
	f, err := os.Open(c.local)
	if err != nil {
		return nil, err
	}
	return &checked{f: f, want: c}, nil
}

// checked fails at the end of a file that is not the one that was planned with.
type checked struct {
	f    *os.File
	want content
	read int64
}

func (r *checked) Read(p []byte) (int, error) {
	n, err := r.f.Read(p)
	r.read += int64(n)
	if r.read > r.want.size || errors.Is(err, io.EOF) && r.read != r.want.size {
		return n, fmt.Errorf("%s changed while it was sent", r.want.local)
	}
	return n, err
}

func (r *checked) Close() error { return r.f.Close() }

// showable reports whether a text can be shown as a diff.
func showable(text []byte) bool {
	return len(text) <= diffLimit && utf8.Valid(text) && !bytes.ContainsRune(text, 0)
}

// digest names a content that is not shown.
func digest(size int64, sum string) string {
	return fmt.Sprintf("%d bytes, sha256 %.12s", size, sum)
}
