package engine_test

import (
	"bytes"
	"io"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

type buffer = bytes.Buffer

func replaceAll(s, old, with string) string { return strings.ReplaceAll(s, old, with) }
func readerOf(s string) io.Reader           { return strings.NewReader(s) }
func pos(line int) hcl.Pos                  { return hcl.Pos{Line: line, Column: 1, Byte: line * 100} }
