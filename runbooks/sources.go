package runbooks

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/pxrun/pxrun/internal/diag"
)

// Limits of what is read. A file that people write is far below them; what is above is a mistake (a database dump, a
// disk image), and reading it would take all memory before the mistake could be named.
const (
	maxFileSize = 1 << 20
	maxFiles    = 1000
)

// sources are the files of a document.
type sources struct {
	base  string
	files map[string]*hcl.File
	// order is the names in the order of the command line, then by name: the order of everything else.
	order []string
	diags diag.List
	// broken are the files with syntax errors: what is left of them is not judged any further.
	broken map[string]bool
}

// readSources reads and parses files and folders.
func readSources(paths []string, base string) *sources {
	s := &sources{base: base, files: map[string]*hcl.File{}, broken: map[string]bool{}}
	if len(paths) == 0 {
		s.diags = diag.Error("No files", "No file or folder was given to read.", diag.Range{})
	}
	for _, p := range paths {
		for _, name := range s.expand(p) {
			s.read(name)
		}
	}
	return s
}

func (s *sources) open(name string) string {
	if s.base == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(s.base, name)
}

// expand lists the files that a path of the command line stands for.
func (s *sources) expand(path string) []string {
	info, err := os.Stat(s.open(path))
	if err != nil {
		s.fail(path, "No such file", "File not read", err)
		return nil
	}
	if !info.IsDir() {
		return []string{filepath.Clean(path)}
	}
	entries, err := os.ReadDir(s.open(path))
	if err != nil {
		s.fail(path, "No such folder", "Folder not read", err)
		return nil
	}
	var names []string
	for _, e := range entries {
		if n := e.Name(); filepath.Ext(n) == ".hcl" && !strings.HasPrefix(n, ".") && !e.IsDir() {
			names = append(names, filepath.Join(path, n))
		}
	}
	switch {
	case len(names) == 0:
		s.add(diag.Error("Empty folder", fmt.Sprintf("The folder %q holds no file that ends in .hcl.", path), diag.Range{}))
	case len(names) > maxFiles:
		s.add(diag.Error("Too many files", fmt.Sprintf("The folder %q holds %d files that end in .hcl; the limit is %d.", path, len(names), maxFiles), diag.Range{}))
		return nil
	}
	return names
}

func (s *sources) add(l diag.List) { s.diags = append(s.diags, l...) }

func (s *sources) fail(path, missing, other string, err error) {
	var cause *fs.PathError
	if errors.As(err, &cause) {
		err = cause.Err
	}
	if errors.Is(err, fs.ErrNotExist) {
		s.add(diag.Error(missing, fmt.Sprintf("%q does not exist.", path), diag.Range{}))
		return
	}
	s.add(diag.Error(other, fmt.Sprintf("%q cannot be read: %v.", path, err), diag.Range{}))
}

func (s *sources) read(name string) {
	if _, twice := s.files[name]; twice {
		return
	}
	src, diags := readLimited(name, s.open(name))
	if src == nil {
		s.add(diags)
		return
	}
	file, diags := parse(src, name)
	if diags.HasErrors() {
		s.broken[name] = true
	}
	s.add(diags)
	if file != nil {
		s.files[name] = file
		s.order = append(s.order, name)
	}
}

// readLimited reads a text file of a bearable size. It returns nil when it could not.
func readLimited(name, path string) ([]byte, diag.List) {
	place := diag.Range{Filename: name, Start: hcl.InitialPos, End: hcl.InitialPos}
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() && info.Mode()&(fs.ModeNamedPipe|fs.ModeCharDevice) == 0 {
		return nil, diag.Error("File not read", fmt.Sprintf("%q is not a regular file.", name), place)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, diag.Error("File not read", fmt.Sprintf("%q cannot be read: %v.", name, errors.Unwrap(err)), place)
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, diag.Error("File not read", fmt.Sprintf("%q cannot be read: %v.", name, errors.Unwrap(err)), place)
	}
	if len(src) > maxFileSize {
		return nil, diag.Error("File too large", fmt.Sprintf("%q is larger than %d KiB, which no runbook or inventory needs to be. "+
			"Split it into several files of one folder, or read large data from where it lies.", name, maxFileSize>>10), place)
	}
	if src == nil {
		src = []byte{}
	}
	return src, nil
}

// parse checks that a text can be parsed without harm and does so. The file is nil when it could not be; with syntax
// errors it is what could be understood.
func parse(src []byte, name string) (*hcl.File, diag.List) {
	src = Normalize(src)
	if diags := notText(src, name); diags != nil {
		return nil, diags
	}
	if diags := tooDeep(src, name); diags != nil {
		return &hcl.File{Bytes: src, Body: hcl.EmptyBody()}, diags
	}
	file, diags := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	return file, explainSyntax(diags, src)
}

// Normalize is a file as it is parsed, which is what the places of problems count in: without a byte order mark, and
// with plain line ends. A heredoc would carry the carriage returns of a file written on Windows into scripts on nodes.
func Normalize(src []byte) []byte {
	src = bytes.TrimPrefix(src, []byte("\xef\xbb\xbf"))
	return bytes.ReplaceAll(src, []byte("\r\n"), []byte("\n"))
}

// notText refuses what is no UTF-8 text with a word about what it seems to be.
func notText(src []byte, name string) diag.List {
	place := diag.Range{Filename: name, Start: hcl.InitialPos, End: hcl.InitialPos}
	for _, mark := range []string{"\xff\xfe", "\xfe\xff"} {
		if bytes.HasPrefix(src, []byte(mark)) {
			return diag.Error("Not UTF-8", "The file is UTF-16. Save it as UTF-8.", place)
		}
	}
	at := bytes.IndexByte(src, 0)
	if at < 0 {
		return nil
	}
	line := 1 + bytes.Count(src[:at], []byte("\n"))
	place.Start = hcl.Pos{Line: line, Column: 1 + at - (bytes.LastIndexByte(src[:at], '\n') + 1), Byte: at}
	place.End = place.Start
	return diag.Error("Not a text file", "The file holds a NUL byte, so it is no text. Was it cut off, or is it the wrong file?", place)
}

// bodies are the files in order.
func (s *sources) bodies() []hcl.Body {
	var all []hcl.Body
	for _, name := range s.order {
		all = append(all, s.files[name].Body)
	}
	return all
}

// names lists the files in order.
func (s *sources) names() []string { return slices.Clone(s.order) }
